"""What a recipe will cost, from shapes alone: nothing is downloaded, decoded or trained."""
