"""The web page that asks the untouched and the aligned model side by side."""
