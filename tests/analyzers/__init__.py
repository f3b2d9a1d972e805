"""Tests of the analyzers: artifacts made as values go in, findings come out."""
