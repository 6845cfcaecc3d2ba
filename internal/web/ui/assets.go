package ui

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"mime"
	"net/http"
	"path"
)

//go:embed assets/app.css assets/app.js assets/htmx.js assets/favicon.svg
var embedded embed.FS

// AssetsPath is where Assets are served.
const AssetsPath = "/assets/"

// Assets are the embedded files. Each is asked for with the hash of its content, so that a browser may keep it for ever.
type Assets struct {
	files map[string]asset
}

type asset struct {
	content   []byte
	hash, typ string
}

// LoadAssets reads and hashes them.
func LoadAssets() (*Assets, error) {
	a := &Assets{files: map[string]asset{}}
	list, err := embedded.ReadDir("assets")
	if err != nil {
		return nil, fmt.Errorf("list assets: %w", err)
	}
	for _, f := range list {
		content, err := embedded.ReadFile("assets/" + f.Name())
		if err != nil {
			return nil, fmt.Errorf("read asset: %w", err)
		}
		sum := sha256.Sum256(content)
		a.files[f.Name()] = asset{content, hex.EncodeToString(sum[:8]), contentType(f.Name())}
	}
	return a, nil
}

// contentType does not ask the machine, whose table may differ.
func contentType(name string) string {
	switch path.Ext(name) {
	case ".css":
		return "text/css; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	}
	return mime.TypeByExtension(path.Ext(name))
}

// URL is the address of an asset as it is now.
func (a *Assets) URL(name string) string { return AssetsPath + name + "?v=" + a.files[name].hash }

// ServeHTTP answers AssetsPath. With another version than the current one the answer is the current one, to be asked for
// again.
func (a *Assets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, ok := a.files[path.Base(r.URL.Path)]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", f.typ)
	h.Set("ETag", `"`+f.hash+`"`)
	h.Set("Cache-Control", "no-cache")
	if r.URL.Query().Get("v") == f.hash {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	if r.Header.Get("If-None-Match") == `"`+f.hash+`"` {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	_, _ = w.Write(f.content) // a client that left needs no answer
}
