"""What measures napari-dala: how fast it is, and how good its models and maps are.

Run from the project's root, each by its name: `python -m benchmarks.reading SLIDE`. The figures are in
docs/performance.md, docs/results.md and docs/explanations.md, each beside the command that measured it. `dala bench`
measures what a user may want to know of a machine; here is what a developer asks besides.
"""
