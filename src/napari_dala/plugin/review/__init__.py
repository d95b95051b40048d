"""The dock "Review tiles": thumbnails of tiles in lists, labelled with the keyboard."""
