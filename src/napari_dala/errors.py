"""The errors a user may meet. Each message is one line: which file, what is wrong, what to do."""

from __future__ import annotations


class DalaError(Exception):
    """Something the user can act on; shown as one line, never with a traceback."""


class SlideError(DalaError):
    """A slide cannot be opened, read or analysed as asked."""


class BundleError(DalaError):
    """A model bundle is missing, damaged or does not fit the network."""


class AnnotationError(DalaError):
    """A GeoJSON file of regions cannot be used."""


class JobError(DalaError):
    """A job's folder cannot be read or written, or the job is not in a state to do what was asked."""


class DatasetError(DalaError):
    """A folder is not the data set it should be, or its images cannot be split as asked."""


class ClusterError(DalaError):
    """A cluster's scheduler or one of its workers cannot take part."""
