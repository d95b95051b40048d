"""Commands about the paper (arXiv 2308.13150) and what it leaves open."""
