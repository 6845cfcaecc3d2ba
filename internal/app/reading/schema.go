package reading

import (
	"cmp"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"

	"github.com/tallystick/tallystick/internal/core/catalog"
)

// schemaDraft is the one dialect of JSON Schema that is read.
const schemaDraft = "https://json-schema.org/draft/2020-12/schema"

// schemaURL names a schema to the library; nothing is fetched from anywhere.
const schemaURL = "tally:schema"

// gotMax bounds how many characters of an event one violation repeats.
const gotMax = 60

// Schema is a compiled JSON Schema. It is immutable and safe for concurrent use.
type Schema struct{ compiled *jsonschema.Schema }

// SchemaFault is what is wrong with a schema, and where in it. errors.Is finds ErrInvalid.
type SchemaFault struct {
	Place             []string // "properties", "tokens", "type"
	Message, Expected string
}

func (e *SchemaFault) Error() string {
	return "schema" + pointer("", e.Place) + " " + e.Message
}

// Unwrap makes it an ErrInvalid.
func (e *SchemaFault) Unwrap() error { return ErrInvalid }

// nothing loads nothing: a schema stands in the catalog, whole.
type nothing struct{}

func (nothing) Load(url string) (any, error) {
	return nil, fmt.Errorf("%s is not in the catalog", url)
}

// NewSchema compiles a schema in canonical JSON. *SchemaFault.
func NewSchema(source []byte) (*Schema, error) {
	if len(source) > catalog.MaxSchema {
		return nil, &SchemaFault{nil, fmt.Sprintf("is too long: %d bytes of JSON", len(source)), fmt.Sprintf("at most %d bytes", catalog.MaxSchema)}
	}
	doc, err := decode(source)
	if err != nil {
		return nil, &SchemaFault{nil, "is not JSON", "a JSON Schema"}
	}
	if fault := foreign(doc, nil); fault != nil {
		return nil, fault
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(nothing{})
	if err := c.AddResource(schemaURL, doc); err != nil {
		return nil, &SchemaFault{nil, "is not a JSON Schema: " + err.Error(), "a JSON Schema"}
	}
	compiled, err := c.Compile(schemaURL)
	if err != nil {
		return nil, schemaFault(err)
	}
	out := &Schema{compiled}
	if v := out.Check(nil); v != nil && v.endless {
		return nil, &SchemaFault{nil, v.Rule, v.Want}
	}
	return out, nil
}

// foreign finds what would lead out of the catalog: another dialect, a name, a reference to elsewhere.
func foreign(v any, place []string) *SchemaFault {
	switch v := v.(type) {
	case []any:
		for i, item := range v {
			if f := foreign(item, at(place, strconv.Itoa(i))); f != nil {
				return f
			}
		}
	case map[string]any:
		for _, key := range sorted(v) {
			text, isText := v[key].(string)
			here := at(place, key)
			switch {
			case key == "$schema" && isText && strings.TrimSuffix(text, "#") != schemaDraft:
				return &SchemaFault{here, fmt.Sprintf("is another dialect (got %q)", clip(text)), schemaDraft + ", or no $schema"}
			case (key == "$ref" || key == "$dynamicRef") && isText && !strings.HasPrefix(text, "#"):
				return &SchemaFault{here, fmt.Sprintf("leads out of this schema (got %q)", clip(text)), `a place in it, such as "#/$defs/NAME"`}
			case key == "$id" && isText, key == "$vocabulary":
				return &SchemaFault{here, "does not go here: the catalog names the schema", "no " + key}
			}
			if f := foreign(v[key], here); f != nil {
				return f
			}
		}
	}
	return nil
}

// schemaFault finds the place that the library complains of.
func schemaFault(err error) *SchemaFault {
	if invalid, ok := errors.AsType[*jsonschema.SchemaValidationError](err); ok {
		if v, ok := errors.AsType[*jsonschema.ValidationError](invalid.Err); ok {
			leaf := first(v)
			message, expected := say(leaf)
			if n := len(leaf.InstanceLocation); n > 0 && leaf.InstanceLocation[n-1] == "type" {
				message, expected = "is no type of JSON", "string, number, integer, boolean, object, array, null, or a list of them"
			}
			return &SchemaFault{leaf.InstanceLocation, message, expected}
		}
	}
	if bad, ok := errors.AsType[*jsonschema.InvalidRegexError](err); ok {
		_, inside, _ := strings.Cut(bad.URL, "#/")
		return &SchemaFault{places(inside), fmt.Sprintf("is not a regular expression (got %q)", clip(bad.Regex)), "a regular expression in RE2 syntax"}
	}
	return &SchemaFault{nil, "cannot be used: " + strings.ReplaceAll(clip2(err.Error()), schemaURL, ""), "a JSON Schema of draft 2020-12"}
}

func places(pointer string) []string {
	if pointer == "" {
		return nil
	}
	parts := strings.Split(pointer, "/")
	for i, p := range parts {
		parts[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(p)
	}
	return parts
}

// Violation is what an event's data breaks of its schema.
type Violation struct {
	Pointer    string // inside the event: "/data/tokens"
	Rule, Want string
	endless    bool // the schema's own fault: it refers to itself
}

// Check validates canonical data; without data it is an empty object. Of several violations the first by pointer is told.
func (s *Schema) Check(data []byte) *Violation {
	v, err := decode(data)
	if err != nil {
		return &Violation{Pointer: "/data", Rule: "is not JSON", Want: "JSON"}
	}
	err = s.compiled.Validate(v)
	if err == nil {
		return nil
	}
	broken, ok := errors.AsType[*jsonschema.ValidationError](err)
	if !ok {
		return &Violation{Pointer: "/data", Rule: "cannot be held against the schema: " + clip2(err.Error()), Want: "other data"}
	}
	leaf := first(broken)
	rule, want := say(leaf)
	place := leaf.InstanceLocation
	switch k := leaf.ErrorKind.(type) {
	case *kind.Required:
		place = at(place, slices.Min(k.Missing))
	case *kind.AdditionalProperties:
		place = at(place, slices.Min(k.Properties))
	case *kind.DependentRequired:
		place = at(place, slices.Min(k.Missing))
	}
	_, endless := leaf.ErrorKind.(*kind.RefCycle)
	return &Violation{pointer("/data", place), rule, want, endless}
}

// first is the violation to tell: of an alternative the alternative itself, else the first by place.
func first(e *jsonschema.ValidationError) *jsonschema.ValidationError {
	switch e.ErrorKind.(type) {
	case *kind.AnyOf, *kind.OneOf, *kind.Not, *kind.Contains, *kind.MinContains, *kind.MaxContains:
		return e
	}
	if len(e.Causes) == 0 {
		return e
	}
	leaves := make([]*jsonschema.ValidationError, len(e.Causes))
	for i, cause := range e.Causes {
		leaves[i] = first(cause)
	}
	return slices.MinFunc(leaves, func(a, b *jsonschema.ValidationError) int {
		return cmp.Or(slices.Compare(a.InstanceLocation, b.InstanceLocation), cmp.Compare(a.SchemaURL, b.SchemaURL),
			slices.Compare(a.ErrorKind.KeywordPath(), b.ErrorKind.KeywordPath()))
	})
}

// say is the rule that is broken and what would be right.
func say(e *jsonschema.ValidationError) (rule, want string) {
	switch k := e.ErrorKind.(type) {
	case *kind.Type:
		return "is " + article(k.Got), anyOf(k.Want)
	case *kind.Required:
		return "is missing", "a value: the schema requires it"
	case *kind.Enum:
		return "is none of the allowed values" + got(k.Got), values(k.Want)
	case *kind.Const:
		return "is not the one allowed value" + got(k.Got), values([]any{k.Want})
	case *kind.AdditionalProperties:
		return "is not a property that the schema knows", "only the properties that it names"
	case *kind.FalseSchema:
		return "is not allowed here", "nothing here"
	case *kind.Minimum:
		return "is too small (got " + rational(k.Got) + ")", "at least " + rational(k.Want)
	case *kind.Maximum:
		return "is too large (got " + rational(k.Got) + ")", "at most " + rational(k.Want)
	case *kind.ExclusiveMinimum:
		return "is too small (got " + rational(k.Got) + ")", "more than " + rational(k.Want)
	case *kind.ExclusiveMaximum:
		return "is too large (got " + rational(k.Got) + ")", "less than " + rational(k.Want)
	case *kind.MultipleOf:
		return "is no multiple of " + rational(k.Want) + " (got " + rational(k.Got) + ")", "a multiple of " + rational(k.Want)
	case *kind.MinLength:
		return fmt.Sprintf("is too short: %d characters", k.Got), fmt.Sprintf("at least %d", k.Want)
	case *kind.MaxLength:
		return fmt.Sprintf("is too long: %d characters", k.Got), fmt.Sprintf("at most %d", k.Want)
	case *kind.MinItems:
		return fmt.Sprintf("has too few items: %d", k.Got), fmt.Sprintf("at least %d", k.Want)
	case *kind.MaxItems:
		return fmt.Sprintf("has too many items: %d", k.Got), fmt.Sprintf("at most %d", k.Want)
	case *kind.MinProperties:
		return fmt.Sprintf("has too few properties: %d", k.Got), fmt.Sprintf("at least %d", k.Want)
	case *kind.MaxProperties:
		return fmt.Sprintf("has too many properties: %d", k.Got), fmt.Sprintf("at most %d", k.Want)
	case *kind.Pattern:
		return "does not match the pattern" + got(k.Got), "a text that matches " + clip(k.Want)
	case *kind.UniqueItems:
		return fmt.Sprintf("has equal items, %d and %d", k.Duplicates[0], k.Duplicates[1]), "items that differ"
	case *kind.AnyOf:
		return "fits none of the schema's alternatives (anyOf)", "one of them"
	case *kind.OneOf:
		return "does not fit exactly one of the schema's alternatives (oneOf)", "one of them"
	case *kind.Format:
		return "is not a valid " + k.Want + got(k.Got), "a " + k.Want + "; regular expressions are RE2's"
	case *kind.RefCycle:
		return "refers to itself without an end", "a $ref that leads to a schema with rules"
	case *kind.Not:
		return "fits what the schema excludes (not)", "something else"
	}
	keyword := strings.Join(e.ErrorKind.KeywordPath(), ".")
	return "breaks the schema's rule " + strconv.Quote(keyword), "what that rule asks for"
}

func article(word string) string {
	switch word {
	case "null":
		return "null"
	case "array", "integer", "object":
		return "an " + word
	}
	return "a " + word
}

func anyOf(kinds []string) string {
	words := make([]string, len(kinds))
	for i, k := range kinds {
		words[i] = article(k)
	}
	return strings.Join(words, " or ")
}

func values(list []any) string {
	const most = 12
	words := make([]string, 0, most)
	for i, v := range list {
		if i == most {
			words = append(words, "…")
			break
		}
		words = append(words, shown(v))
	}
	return strings.Join(words, ", ")
}

func shown(v any) string {
	if s, ok := v.(string); ok {
		return strconv.Quote(clip(s))
	}
	return clip(fmt.Sprint(v))
}

func got(v any) string { return " (got " + shown(v) + ")" }

func rational(r *big.Rat) string {
	if r.IsInt() {
		return clip(r.Num().String())
	}
	exact, ok := r.FloatPrec()
	if !ok {
		return clip(r.RatString())
	}
	return clip(r.FloatString(exact))
}

func clip(s string) string { return clipTo(s, gotMax) }

// clip2 is for an error text of the library.
func clip2(s string) string { return clipTo(strings.ReplaceAll(s, "\n", " "), 4*gotMax) }

func clipTo(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}

func pointer(root string, place []string) string {
	var b strings.Builder
	b.WriteString(root)
	for _, p := range place {
		b.WriteString("/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(p))
	}
	return b.String()
}

// at is place with one more step, in a slice of its own.
func at(place []string, step string) []string { return append(slices.Clone(place), step) }

func sorted(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
