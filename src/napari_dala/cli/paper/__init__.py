"""Commands for a paper: what tables and pages in it rest on."""
