"""Images, their two views, and the loader that feeds a rank."""
