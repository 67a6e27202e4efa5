"""Estimates of a recipe's cost from shapes alone: nothing is downloaded, decoded or trained."""
