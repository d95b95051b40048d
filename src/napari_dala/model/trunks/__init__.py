"""Trunks other than ResNet-50: their names, how they are built, and how a file of weights becomes one."""
