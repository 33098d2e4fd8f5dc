"""The report: one verdict as a page that a supervisor reads, and as a document that a program reads."""
