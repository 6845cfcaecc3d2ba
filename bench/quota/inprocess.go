package main

func inProcess(options) error { return nil }
