// Package ui is what all pages share: the frame around them, embedded assets, exact numbers and times as text, charts as
// SVG, and the headers that keep a page from running anything that is not ours.
package ui

import (
	"bytes"
	"context"
	"fmt"
	"net/http"

	"github.com/a-h/templ"
)

// policy allows our own files and nothing else: no inline script or style, no frame around us, no form to elsewhere.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// htmxConfig: no style sheet of its own, no swap of an error into a live part, and what a reader opened stays open.
const htmxConfig = `{"includeIndicatorCSS":false,"history":false,"noSwap":[204,304,"4xx","5xx"],"defaultTimeout":10000,` +
	`"morphIgnore":["data-htmx-powered","open"]}`

// Frame is what surrounds a page.
type Frame struct {
	Title   string
	Area    string // who the pages are for; stands beside the name
	Home    string // path that the name leads to
	Nav     []NavItem
	SignOut string // path to post to; empty: nobody is signed in
	Demo    bool
	Foot    string
	Assets  *Assets
}

// NavItem is one place to go.
type NavItem struct {
	Href, Text string
	Here       bool // it is this page
	Within     bool // this page is one below it
}

// Harden sets the headers of every page: its policy, no guessing of types, no referrer to others, no copy in caches.
// Assets set their own caching.
func Harden(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// Render writes a page whole or not at all. The error is of rendering, when nothing was written, or of a client that left.
func Render(ctx context.Context, w http.ResponseWriter, status int, page templ.Component) error {
	var buf bytes.Buffer
	if err := page.Render(ctx, &buf); err != nil {
		http.Error(w, "This page could not be made.", http.StatusInternalServerError)
		return fmt.Errorf("render page: %w", err)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	if _, err := w.Write(buf.Bytes()); err != nil {
		return fmt.Errorf("write page: %w", err)
	}
	return nil
}

// Live says that a request is of a part that updates itself, not of a page.
func Live(r *http.Request) bool { return r.Header.Get("HX-Request") == "true" }
