package httpapi

import (
	"context"
	"errors"
	"mime"
	"net/http"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/danielgtaylor/huma/v2"

	"github.com/tallystick/tallystick/internal/app/declare"
	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/store"
)

// VersionBody is an applied catalog version.
type VersionBody struct {
	Version   int64     `json:"version"`
	AppliedAt time.Time `json:"applied_at"`
	AppliedBy string    `json:"applied_by"`
}

type catalogBody struct {
	VersionBody
	Source string `json:"source" doc:"The YAML as it was applied"`
}

type changeBody struct {
	Op   string `json:"op" enum:"+,-,~"`
	Path string `json:"path" example:"plans.free.limits.daily.quota"`
	From string `json:"from"`
	To   string `json:"to"`
}

type planBody struct {
	CurrentVersion int64        `json:"current_version"`
	Changes        []changeBody `json:"changes"`
	Warnings       []string     `json:"warnings"`
	Gateways       int          `json:"gateways" doc:"How many gateways the bounds are stated for"`
	Bounds         []boundBody  `json:"bounds" doc:"By how much admitted requests can pass each limit of the catalog"`
	Replay         *whatIfBody  `json:"replay,omitempty" doc:"Recorded usage through the catalog; absent where there is none to replay"`
}

type boundBody struct {
	Plan        string `json:"plan"`
	Limit       string `json:"limit"`
	Enforcement string `json:"enforcement" enum:"hard,soft,grace,shadow"`
	Bound       string `json:"bound" example:"0" doc:"A quantity of what the limit counts, with the reason where it is not 0; or no bound"`
	Exact       bool   `json:"exact" doc:"The limit is never passed"`
}

type appliedBody struct {
	Version   int64        `json:"version"`
	Changes   []changeBody `json:"changes"`
	Warnings  []string     `json:"warnings"`
	AppliedAt time.Time    `json:"applied_at,omitzero"`
}

func versionOf(v store.CatalogVersion) VersionBody {
	return VersionBody{v.Version, instant(v.AppliedAt), v.AppliedBy}
}

func changesOf(list []catalog.Change) []changeBody {
	out := make([]changeBody, 0, len(list))
	for _, c := range list {
		out = append(out, changeBody(c))
	}
	return out
}

func (a *api) catalogs() {
	const tag = "catalog"
	handle(a, operation{
		method: http.MethodGet, path: "/v1/catalog/versions", id: "list-catalog-versions", tag: tag, summary: "List applied catalog versions, newest first",
	}, a.listCatalogs)
	handle(a, operation{
		method: http.MethodGet, path: "/v1/catalog/versions/{version}", id: "get-catalog-version", tag: tag, summary: "Show a catalog version with its YAML",
	}, a.catalog)
	yaml := map[string]*huma.Schema{typeYAML: {Type: huma.TypeString, Description: "The catalog, at most 1 MiB"}}
	file := []*huma.Param{{Name: "file", In: "query", Description: "Name of the file in messages", Schema: &huma.Schema{Type: huma.TypeString}}}
	a.byHand(operation{
		method: http.MethodPost, path: "/v1/catalog/plan", id: "plan-catalog", tag: tag, summary: "Show what applying a catalog would change",
	}, declare.MaxSource, yaml, map[string]reflect.Type{"200": reflect.TypeFor[planBody]()}, append(file, whatIfSpan()...), a.plan)
	a.byHand(operation{
		method: http.MethodPost, path: "/v1/catalog/versions", id: "apply-catalog", tag: tag,
		summary: "Apply a catalog as the next version; 200 and no changes when it says what the newest one says", status: http.StatusCreated,
	}, declare.MaxSource, yaml, map[string]reflect.Type{
		"200": reflect.TypeFor[appliedBody](), "201": reflect.TypeFor[appliedBody](),
	}, file, a.apply)
}

func (a *api) listCatalogs(ctx context.Context, in *Paging) (listBody[VersionBody], error) {
	const kind = "catalogs"
	from, err := place(kind, in.Cursor)
	if err != nil {
		return listBody[VersionBody]{}, err
	}
	if _, err := strconv.ParseInt(from, 10, 64); from != "" && err != nil {
		return listBody[VersionBody]{}, newProblem(codeCursorInvalid, "")
	}
	rows, err := a.cfg.Govern.Catalogs(ctx, store.Query{Cursor: from, Limit: in.fetch()})
	return listOf(*in, kind, rows, func(v store.CatalogVersion) string { return strconv.FormatInt(v.Version, 10) }, versionOf), err
}

func (a *api) catalog(ctx context.Context, in *struct {
	Version string `path:"version" doc:"A number from 1, or latest" example:"latest"`
},
) (catalogBody, error) {
	var n int64
	if in.Version != "latest" {
		var err error
		if n, err = strconv.ParseInt(in.Version, 10, 64); err != nil || n < 1 {
			return catalogBody{}, invalid("version", "must be a number from 1, or latest", "the list of versions shows all")
		}
	}
	v, err := a.cfg.Govern.Catalog(ctx, n)
	if errors.Is(err, account.ErrNotFound) {
		return catalogBody{}, newProblem(codeNotFound, "There is no such catalog version.")
	}
	return catalogBody{versionOf(v), string(v.Source)}, err
}

const typeYAML = "application/yaml"

// source is the catalog in a request and the name it goes by.
func source(r *http.Request, more ...string) (file string, yaml []byte, err error) {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != typeYAML && media != "application/x-yaml" && media != "text/yaml" {
		return "", nil, newProblem(codeMediaType, "Send the catalog as "+typeYAML+".")
	}
	q := r.URL.Query()
	for name := range q {
		if allowed := append(more, "file"); !slices.Contains(allowed, name) {
			return "", nil, invalid("", "unknown query parameter", "this route takes "+strings.Join(allowed, ", ")+" alone")
		}
	}
	return fileName(q.Get("file")), callOf(r.Context()).body, nil
}

// fileNameMax bounds a file's name in messages.
const fileNameMax = 128

// fileName is the last part of a path, fit to be printed.
func fileName(s string) string {
	s = path.Base(strings.ToValidUTF8(s, ""))
	if s == "." || s == "/" || len(s) > fileNameMax || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return "catalog.yaml"
	}
	return s
}

func (a *api) plan(w http.ResponseWriter, r *http.Request) {
	file, yaml, err := source(r, "from", "to")
	var p govern.CatalogPlan
	if err == nil {
		p, err = a.cfg.Govern.PlanCatalog(r.Context(), file, yaml)
	}
	var replayed *whatIfBody
	if err == nil {
		replayed, err = a.whatIf(r, file, yaml)
	}
	gateways := 1
	if err == nil && a.cfg.GatewayCount != nil {
		gateways, err = a.cfg.GatewayCount(r.Context())
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	gateways = max(1, gateways)
	writeJSON(w, http.StatusOK, jsonType, planBody{
		p.CurrentVersion, changesOf(p.Changes), append([]string{}, p.Warnings...), gateways, boundsOf(file, yaml, gateways), replayed,
	})
}

// boundsOf says of each limit of a catalog, which is valid, how far it can be passed.
func boundsOf(file string, yaml []byte, gateways int) []boundBody {
	out := []boundBody{}
	c, faults := declare.Decode(file, yaml)
	if len(faults) > 0 {
		return out
	}
	for i := range c.Plans {
		p := &c.Plans[i]
		for j := range p.Limits {
			l := &p.Limits[j]
			o := c.Overshoot(p, l, gateways)
			out = append(out, boundBody{Plan: p.Key, Limit: l.Key, Enforcement: l.Mode.String(), Bound: o.String(), Exact: o.Exact()})
		}
	}
	return out
}

func (a *api) apply(w http.ResponseWriter, r *http.Request) {
	file, yaml, err := source(r)
	var v store.CatalogVersion
	var p govern.CatalogPlan
	if err == nil {
		v, p, err = a.cfg.Govern.ApplyCatalog(r.Context(), operator, file, yaml)
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	status := http.StatusCreated
	if len(p.Changes) == 0 {
		status = http.StatusOK
	}
	writeJSON(w, status, jsonType, appliedBody{v.Version, changesOf(p.Changes), append([]string{}, p.Warnings...), instant(v.AppliedAt)})
}
