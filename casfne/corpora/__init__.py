"""Face corpora on disk, one file each, all giving the same record."""
