package reading_test

import (
	"testing"

	"github.com/tallystick/tallystick/internal/app/reading"
)

func TestScratchSchema(t *testing.T) {
	for _, text := range []string{
		`{"type":"object"}`, `{"type":"objekt"}`, `{"$ref":"http://x/y"}`, `{"$ref":"#/nope"}`, `{"$schema":"http://json-schema.org/draft-07/schema#"}`, `{"properties":{"a":{"pattern":"("}}}`, `7`, `{"properties":{"a":{"minimum":"x"}}}`, `{"required":["a","a"]}`, `{"$ref":"#"}`, `{"$anchor":"a","$ref":"#b"}`, `{"patternProperties":{"(":true}}`,
		`{"$ref":"file:///etc/passwd"}`, `{"$dynamicRef":"https://x"}`,
	} {
		s, err := reading.NewSchema([]byte(text))
		t.Logf("%s: %v", text, err)
		if err == nil {
			t.Log(s.Check([]byte(`{}`)))
		}
	}
	s, err := reading.NewSchema([]byte(`{"type":"object","required":["tokens","model"],"additionalProperties":false,"properties":{"tokens":{"type":"integer","minimum":0,"maximum":1000},"model":{"enum":["a","b"]},"x":{"anyOf":[{"type":"string"},{"type":"null"}]},"m":{"multipleOf":0.01},"list":{"uniqueItems":true,"items":{"type":"number"}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{``, `{"model":"a","tokens":5}`, `{"model":"c","tokens":5}`, `{"model":"a","tokens":"5"}`, `{"model":"a","tokens":99999999999999999999999999999999999999}`, `{"model":"a","tokens":5,"y":1}`, `{"model":"a","tokens":5,"x":1}`, `{"model":"a","tokens":5,"m":0.015}`, `{"model":"a","tokens":5,"list":[1,1]}`, `{"model":"a","tokens":5,"list":[1,"a"]}`, `{"model":"a","tokens":1.5}`} {
		v := s.Check([]byte(d))
		if v == nil {
			t.Log(d, "ok")
			continue
		}
		t.Logf("%s: %+v", d, *v)
	}
}
