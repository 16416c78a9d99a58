"""What is done to an example between its source and its batch."""
