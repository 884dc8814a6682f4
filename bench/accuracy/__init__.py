"""The table of accuracies: what a row is, how one is made, how many are made side by side, what all of them say."""
