package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

const (
	schemeOperator = "operatorToken"
	schemeKey      = "gatewayKey"
	jsonType       = "application/json"
)

// newHuma is huma without its schema links, its documentation pages and its own answers to errors.
func newHuma(t *routes) huma.API {
	cfg := huma.DefaultConfig("Tallystick", "v1")
	cfg.Info.Description = "Enforces API quotas at the gateway, meters what it admitted, and bills exactly what it metered. " +
		"Quantities and money are decimal strings, times are RFC 3339 in UTC. A POST takes an Idempotency-Key."
	cfg.OpenAPIPath, cfg.DocsPath, cfg.SchemasPath = "", "", ""
	cfg.CreateHooks = nil // no $schema links
	cfg.RejectUnknownQueryParameters = true
	cfg.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaName)
	cfg.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		schemeOperator: {Type: "http", Scheme: "bearer", Description: "The operator's token, from client.json of the data folder."},
		schemeKey:      {Type: "http", Scheme: "bearer", Description: "A customer's gateway key."},
	}
	cfg.Transformers = []huma.Transformer{func(ctx huma.Context, _ string, v any) (any, error) {
		if e, ok := v.(*huma.ErrorModel); ok {
			p := humaProblem(e)
			p.RequestID = callOf(ctx.Context()).id
			return p, nil
		}
		return v, nil
	}}
	return humago.New(t, cfg)
}

// schemaName names "customerBody" Customer and a list of them ListCustomer.
func schemaName(t reflect.Type, hint string) string {
	return strings.ReplaceAll(huma.DefaultSchemaNamer(t, hint), "Body", "")
}

// operation is what our operations say of themselves.
type operation struct {
	method, path, id, tag, summary, description string
	status                                      int // of success; default 200
}

// describe is the OpenAPI side of an operation.
func (a *api) describe(o operation) huma.Operation {
	op := huma.Operation{
		Method: o.method, Path: o.path, OperationID: o.id, Tags: []string{o.tag}, Summary: o.summary, Description: o.description,
		DefaultStatus: o.status, MaxBodyBytes: -1, BodyReadTimeout: -1, // both are bounded before
		Security: []map[string][]string{{schemeOperator: {}}},
		Responses: map[string]*huma.Response{"default": {
			Description: "A problem (RFC 9457); its code has a page at /errors/{code}.",
			Content:     map[string]*huma.MediaType{"application/problem+json": {Schema: a.schema(reflect.TypeFor[problem]())}},
		}},
	}
	if guardOf(o.path) == gatewayKeys {
		op.Security = []map[string][]string{{schemeKey: {}}}
	}
	if o.method == http.MethodPost {
		longest := replayKeyMax
		op.Parameters = append(op.Parameters, &huma.Param{
			Name: headerReplay, In: "header", Description: "A repeated call within 24 hours is answered as the first one was, with Idempotent-Replayed: true.",
			Schema: &huma.Schema{Type: huma.TypeString, MaxLength: &longest},
		})
	}
	return op
}

func (a *api) schema(t reflect.Type) *huma.Schema {
	return a.huma.OpenAPI().Components.Schemas.Schema(t, true, "")
}

// reply is a handler's answer as huma wants it.
type reply[T any] struct{ Body T }

// handle registers an operation that huma binds. Errors of h become problems.
func handle[I, O any](a *api, o operation, h func(context.Context, *I) (O, error)) {
	huma.Register(a.huma, a.describe(o), func(ctx context.Context, in *I) (*reply[O], error) {
		out, err := h(ctx, in)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		return &reply[O]{out}, nil
	})
}

// byHand registers an operation that binds its own body. bodies are the request's by content type, answers by status.
func (a *api) byHand(o operation, bound int64, bodies map[string]*huma.Schema, answers map[string]reflect.Type, params []*huma.Param, h http.HandlerFunc) {
	op := a.describe(o)
	op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{}}
	for contentType, s := range bodies {
		op.RequestBody.Content[contentType] = &huma.MediaType{Schema: s}
	}
	for status, t := range answers {
		op.Responses[status] = &huma.Response{Description: "Done", Content: map[string]*huma.MediaType{jsonType: {Schema: a.schema(t)}}}
	}
	op.Parameters = append(op.Parameters, params...)
	a.huma.OpenAPI().AddOperation(&op)
	a.routes.handle(o.method+" "+o.path, bound, h)
}

// writeSpec keeps the OpenAPI document.
func (a *api) writeSpec() (err error) {
	doc := a.huma.OpenAPI()
	schemas := doc.Components.Schemas.Map()
	delete(schemas, "ErrorModel") // huma's own problem, which is never sent
	delete(schemas, "ErrorDetail")
	asked := a.asked()
	for name, s := range schemas {
		if !asked[name] {
			s.AdditionalProperties = nil // an answer may get more fields; a request with unknown ones is refused
		}
		for _, p := range s.Properties {
			if p.Type == huma.TypeArray {
				p.Nullable = false // our lists are empty, never null
			}
		}
	}
	if a.spec.json, err = json.MarshalIndent(doc, "", "  "); err != nil {
		return err
	}
	a.spec.yaml, err = doc.YAML()
	return err
}

// asked names the schemas of request bodies.
func (a *api) asked() map[string]bool {
	out := map[string]bool{}
	for _, item := range a.huma.OpenAPI().Paths {
		if item.Post == nil || item.Post.RequestBody == nil {
			continue
		}
		for _, media := range item.Post.RequestBody.Content {
			if media.Schema != nil {
				out[media.Schema.Ref[strings.LastIndex(media.Schema.Ref, "/")+1:]] = true
			}
		}
	}
	return out
}
