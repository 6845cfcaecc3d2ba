package reading_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/app/reading"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
)

func TestSchemaFaults(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"type":"objekt"}`:                     "schema/type is no type of JSON",
		`7`:                                     "schema is a number",
		`{"properties":{"a":{"minimum":"x"}}}`:  "schema/properties/a/minimum is a string",
		`{"properties":{"a":{"pattern":"("}}}`:  `schema/properties/a/pattern is not a valid regex (got "(")`,
		`{"required":["a","a"]}`:                "schema/required has equal items",
		`{"$ref":"http://x/y"}`:                 `schema/$ref leads out of this schema (got "http://x/y")`,
		`{"$ref":"file:///etc/passwd"}`:         "schema/$ref leads out of this schema",
		`{"items":{"$dynamicRef":"https://x"}}`: "schema/items/$dynamicRef leads out of this schema",
		`{"$ref":"#/nope"}`:                     "schema cannot be used",
		`{"$ref":"#"}`:                          "schema refers to itself without an end",
		`{"$id":"https://x"}`:                   "schema/$id does not go here",
		`{"$schema":"http://json-schema.org/draft-07/schema#"}`: "schema/$schema is another dialect",
		`{`: "schema is not JSON",
		`{"title":"` + strings.Repeat("a", catalog.MaxSchema) + `"}`: "schema is too long",
		`{"$schema":"https://json-schema.org/draft/2020-12/schema"}`: "",
		`true`: "",
		`{"$defs":{"a":{"type":"string"}},"properties":{"x":{"$ref":"#/$defs/a"}}}`: "",
	} {
		_, err := reading.NewSchema([]byte(text))
		var fault *reading.SchemaFault
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", text, err)
		case want != "" && (!errors.As(err, &fault) || !errors.Is(err, reading.ErrInvalid) || !strings.HasPrefix(err.Error(), want) || fault.Expected == ""):
			t.Errorf("%.80s: %v, want %s", text, err, want)
		}
	}
}

// TestBreaks lists what a next schema may not do to the one before, and what it may.
func TestBreaks(t *testing.T) {
	t.Parallel()
	object := func(rest string) string {
		return `{"type":"object","properties":{"a":{"type":"integer","maximum":10}}` + rest + `}`
	}
	for name, tc := range map[string]struct{ before, after, want string }{
		"the same":             {object(""), object(""), ""},
		"words":                {object(""), object(`,"title":"x","description":"y"`), ""},
		"required":             {object(""), object(`,"required":["a"]`), "required/0 is required now"},
		"no longer required":   {object(`,"required":["a"]`), object(""), ""},
		"closed":               {object(""), object(`,"additionalProperties":false`), "additionalProperties closes"},
		"opened":               {object(`,"additionalProperties":false`), object(""), ""},
		"others typed":         {object(""), object(`,"additionalProperties":{"type":"string"}`), "additionalProperties/type no longer takes"},
		"lowered":              {object(""), strings.Replace(object(""), "10", "9", 1), "properties/a/maximum is lower"},
		"raised":               {object(""), strings.Replace(object(""), "10", "10.5", 1), ""},
		"a minimum":            {object(""), strings.Replace(object(""), `"maximum"`, `"minimum":0,"maximum"`, 1), "properties/a/minimum is a new bound"},
		"a type less":          {`{"type":["string","integer"]}`, `{"type":"string"}`, "type no longer takes an integer"},
		"a type more":          {`{"type":"integer"}`, `{"type":["number","null"]}`, ""},
		"a type at all":        {`{}`, `{"type":"object"}`, "type no longer takes an array"},
		"an enum less":         {`{"enum":["a","b"]}`, `{"enum":["b"]}`, `enum no longer allows "a"`},
		"an enum more":         {`{"enum":["a"]}`, `{"enum":["b","a"]}`, ""},
		"an enum at all":       {`{"type":"string"}`, `{"type":"string","enum":["a"]}`, "enum allows only some"},
		"a const becomes two":  {`{"const":"a"}`, `{"enum":["b","a"]}`, ""},
		"a finer multiple":     {`{"multipleOf":1}`, `{"multipleOf":0.1}`, ""},
		"a coarser multiple":   {`{"multipleOf":0.1}`, `{"multipleOf":1}`, "multipleOf refuses"},
		"a length of 0":        {`{"type":"string"}`, `{"type":"string","minLength":0}`, ""},
		"a length":             {`{"type":"string"}`, `{"type":"string","minLength":1}`, "minLength is a new bound"},
		"a pattern":            {`{}`, `{"pattern":"a"}`, "pattern is a new rule"},
		"another pattern":      {`{"pattern":"a"}`, `{"pattern":"b"}`, "pattern is not the same"},
		"no pattern":           {`{"pattern":"a"}`, `{}`, ""},
		"a new property":       {object(""), object(`,"minProperties":0`), ""},
		"an optional property": {object(""), strings.Replace(object(""), `"a":`, `"b":{"type":"string"},"a":`, 1), ""},
		"one that was closed":  {object(`,"additionalProperties":false`), strings.Replace(object(`,"additionalProperties":false`), `"a":`, `"b":{"type":"string"},"a":`, 1), ""},
		"one of typed others":  {object(`,"additionalProperties":{"type":"integer"}`), strings.Replace(object(`,"additionalProperties":{"type":"integer"}`), `"a":`, `"b":{"type":"string"},"a":`, 1), "properties/b/type no longer takes an integer"},
		"one away, closed":     {object(`,"additionalProperties":false`), `{"type":"object","additionalProperties":false}`, `additionalProperties refuses the property "a"`},
		"one away, open":       {object(""), `{"type":"object"}`, ""},
		"items":                {`{"items":{"type":"number"}}`, `{"items":{"type":"integer"}}`, "items/type no longer takes a number"},
		"an alternative less":  {`{"anyOf":[{"type":"string"},{"type":"null"}]}`, `{"anyOf":[{"type":"string"}]}`, "anyOf is not the same"},
		"an alternative more":  {`{"anyOf":[{"type":"string"}]}`, `{"anyOf":[{"type":"null"},{"type":"string"}]}`, ""},
		"a definition":         {`{"$ref":"#/$defs/a","$defs":{"a":{"maximum":2}}}`, `{"$ref":"#/$defs/a","$defs":{"a":{"maximum":1}}}`, "$defs/a/maximum is lower"},
		"equal items":          {`{"type":"array"}`, `{"type":"array","uniqueItems":true}`, "uniqueItems refuses"},
		"nothing":              {`{}`, `false`, " allows nothing any more"},
		"all":                  {`false`, `{"type":"string"}`, ""},
		"a group of rules":     {`{}`, `{"allOf":[{"type":"string"}]}`, "allOf is a new rule"},
	} {
		var got string
		for _, b := range reading.Breaks([]byte(tc.before), []byte(tc.after)) {
			got += strings.Join(b.Place, "/") + " " + b.Message + "\n"
			if b.Expected == "" {
				t.Errorf("%s: says too little: %+v", name, b)
			}
		}
		if tc.want == "" && got != "" || !strings.HasPrefix(got, tc.want) {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

// drawSchema builds a small schema, closed so that a new property cannot have been sent before.
func drawSchema(t *rapid.T, depth int) map[string]any {
	out := map[string]any{}
	maybe := func(key string, v func() any) {
		if rapid.IntRange(0, 2).Draw(t, key+"?") == 0 {
			out[key] = v()
		}
	}
	small := func() any { return rapid.IntRange(0, 4).Draw(t, "n") }
	maybe("type", func() any {
		return rapid.SampledFrom([]any{"string", "integer", "number", "object", "array", []any{"string", "null"}, []any{"integer", "object", "array"}}).Draw(t, "type")
	})
	for _, key := range []string{"maximum", "minimum", "maxLength", "minLength", "maxItems", "minItems", "exclusiveMaximum", "exclusiveMinimum"} {
		if rapid.IntRange(0, 7).Draw(t, key) == 0 {
			out[key] = small()
		}
	}
	maybe("enum", func() any {
		return rapid.SliceOfNDistinct(rapid.SampledFrom([]any{"a", "", 1, 2, nil, true}), 1, 4, func(v any) string { return fmt.Sprint(v) }).Draw(t, "enum")
	})
	if depth > 0 {
		maybe("properties", func() any {
			props := map[string]any{}
			for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b"}), 1, 2, rapid.ID[string]).Draw(t, "names") {
				props[name] = drawSchema(t, depth-1)
			}
			return props
		})
		maybe("items", func() any { return drawSchema(t, depth-1) })
		maybe("additionalProperties", func() any {
			if rapid.Bool().Draw(t, "closed") {
				return false
			}
			return drawSchema(t, depth-1)
		})
	}
	maybe("required", func() any { return []any{rapid.SampledFrom([]string{"a", "b"}).Draw(t, "required")} })
	return out
}

func drawValue(t *rapid.T, depth int) any {
	most := 8
	if depth == 0 {
		most = 6
	}
	switch rapid.IntRange(0, most).Draw(t, "kind") {
	case 0:
		return nil
	case 1:
		return rapid.Bool().Draw(t, "bool")
	case 2, 3:
		return rapid.IntRange(-1, 5).Draw(t, "int")
	case 4:
		return json.Number("1.5")
	case 5, 6:
		return rapid.SampledFrom([]string{"", "a", "abc", "abcdef"}).Draw(t, "text")
	case 7:
		return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) any { return drawValue(t, depth-1) }), 0, 3).Draw(t, "list")
	default:
		return rapid.MapOfN(rapid.SampledFrom([]string{"a", "b", "c"}), rapid.Custom(func(t *rapid.T) any { return drawValue(t, depth-1) }), 0, 3).Draw(t, "object")
	}
}

func encoded(t *rapid.T, v any) []byte {
	b, err := json.Marshal(v)
	if err == nil {
		b, err = meter.Canonical(b)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestWithoutABreakNothingIsRefused: where Breaks finds nothing, every value that the earlier schema takes is taken by the
// next one. The validator is the judge. A property that the earlier one leaves free may be given rules, so the values then
// have none but those that it names.
func TestWithoutABreakNothingIsRefused(t *testing.T) {
	t.Parallel()
	compared := 0
	rapid.Check(t, func(t *rapid.T) {
		before := drawSchema(t, 2)
		after := drawSchema(t, 2)
		if rapid.IntRange(0, 3).Draw(t, "near") > 0 { // like the earlier one but for a keyword or two
			after = maps.Clone(before)
			for range rapid.IntRange(0, 2).Draw(t, "changes") {
				other := drawSchema(t, 2)
				key := rapid.SampledFrom([]string{"type", "maximum", "minimum", "minLength", "enum", "required", "properties", "items", "additionalProperties", "maxItems"}).Draw(t, "key")
				delete(after, key)
				if v, ok := other[key]; ok {
					after[key] = v
				}
			}
		}
		a, b := encoded(t, before), encoded(t, after)
		if len(reading.Breaks(a, b)) > 0 {
			return
		}
		compared++
		old, err := reading.NewSchema(a)
		if err != nil {
			t.Fatal(err)
		}
		next, err := reading.NewSchema(b)
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			v := drawValue(t, 2)
			data := encoded(t, v)
			if names(v, before, after) || old.Check(data) != nil {
				continue
			}
			if broken := next.Check(data); broken != nil {
				t.Fatalf("%s was taken by %s and is refused by %s: %+v", data, a, b, broken)
			}
		}
	})
	if compared == 0 {
		t.Error("no pair without a break was drawn")
	}
}

// names says that a value has, somewhere, a property that only the next schema names: the one thing that may be narrowed.
func names(v any, before, after any) bool {
	was, _ := before.(map[string]any)
	is, _ := after.(map[string]any)
	old, _ := was["properties"].(map[string]any)
	now, _ := is["properties"].(map[string]any)
	switch v := v.(type) {
	case map[string]any:
		for k, inner := range v {
			_, known := old[k]
			_, named := now[k]
			if named && !known || names(inner, old[k], now[k]) || !named && names(inner, was["additionalProperties"], is["additionalProperties"]) {
				return true
			}
		}
	case []any:
		for _, inner := range v {
			if names(inner, was["items"], is["items"]) {
				return true
			}
		}
	}
	return false
}

func FuzzSchema(f *testing.F) {
	for _, s := range []string{
		`{"type":"object","required":["a"],"properties":{"a":{"type":"integer"}}}`, `{"anyOf":[{"$ref":"#/$defs/x"}],"$defs":{"x":{"const":1}}}`, `true`, `{"if":true,"then":false}`,
		`{"$ref":"#"}`, `{"allOf":[{"$ref":"#/allOf/0"}]}`, `{"unevaluatedProperties":false,"patternProperties":{"^a":{}}}`, `{"items":false,"prefixItems":[{}],"contains":{"multipleOf":0.1}}`, `{"$dynamicAnchor":"a","$dynamicRef":"#a"}`,
	} {
		f.Add([]byte(s), []byte(`{"a":1}`))
	}
	f.Fuzz(func(t *testing.T, source, data []byte) {
		schema, err := meter.Canonical(source)
		if err != nil {
			return
		}
		s, err := reading.NewSchema(schema)
		if err != nil {
			if !errors.Is(err, reading.ErrInvalid) {
				t.Fatalf("%q: %v", source, err)
			}
			return
		}
		if b := reading.Breaks(schema, schema); len(b) > 0 {
			t.Fatalf("%q breaks itself: %+v", schema, b)
		}
		value, err := meter.Canonical(data)
		if err != nil {
			return
		}
		if v := s.Check(value); v != nil && (!strings.HasPrefix(v.Pointer, "/data") || v.Rule == "" || v.Want == "") {
			t.Fatalf("%q against %q: %+v", value, schema, v)
		}
		_ = reading.Breaks(schema, value)
		_ = reading.Breaks(value, schema)
	})
}
