package httpapi

import (
	"bytes"
	_ "embed" // holds the page
	"html/template"
	"net/http"
	"strings"
)

//go:embed errorpages.tmpl
var errorPage string

// pagePolicy lets a page load our style sheet and nothing else.
const pagePolicy = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// errorsData is one code's page, or the list of all.
type errorsData struct {
	One     *codeInfo
	Unknown bool
	All     []codeInfo
}

func (a *api) errorPages() {
	page := template.Must(template.New("errors").Parse(errorPage))
	a.routes.HandleFunc("GET /errors", func(w http.ResponseWriter, r *http.Request) {
		showErrors(w, r, page, http.StatusOK, errorsData{All: codeTable()})
	})
	a.routes.HandleFunc("GET /errors/{code}", func(w http.ResponseWriter, r *http.Request) {
		for _, i := range codeTable() {
			if string(i.Code) == r.PathValue("code") {
				showErrors(w, r, page, http.StatusOK, errorsData{One: &i})
				return
			}
		}
		if wantsJSON(r) {
			a.fail(w, r, newProblem(codeNotFound, "There is no such problem code."))
			return
		}
		showErrors(w, r, page, http.StatusNotFound, errorsData{Unknown: true, All: codeTable()})
	})
}

// wantsJSON: browsers ask for HTML, and who does not care gets it too.
func wantsJSON(r *http.Request) bool {
	accept := r.Header.Get("Accept")
	return strings.Contains(accept, "json") && !strings.Contains(accept, "text/html")
}

func showErrors(w http.ResponseWriter, r *http.Request, page *template.Template, status int, d errorsData) {
	w.Header().Set("Vary", "Accept")
	if wantsJSON(r) {
		if d.One != nil {
			writeJSON(w, status, jsonType, d.One)
			return
		}
		writeJSON(w, status, jsonType, listBody[codeInfo]{Items: d.All})
		return
	}
	var b bytes.Buffer
	if err := page.Execute(&b, d); err != nil { // its data is our own table
		newProblem(codeInternal, "").write(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", pagePolicy)
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // the client may be gone
}
