"""The dock *Slides*: the workspace as a list, from which slides are opened, analysed and exported."""
