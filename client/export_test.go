package client

import "net/http"

// What the external tests look at.
func Sound(s string) bool { return sound(s) }

func ProblemOf(resp *http.Response) error { return problemOf(resp) }
