"""Files on disk: atomic writing, formats, locks and digests."""
