"""The two kinds of signed repository: a vendor's releases and the studio's choice; `metadata` is what they share."""
