package intake

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/app/ingest"
)

func TestMapping(t *testing.T) {
	t.Parallel()
	m, err := ParseMapping("id=request_id, subject=account,time=ts,data.tokens=tokens,data.of.model=model,data.of.zone=zone", "completion", "billing-export")
	if err != nil {
		t.Fatal(err)
	}
	header := strings.Split("tokens,request_id,model,account,ts,unused,zone", ",")
	if err := m.bind(header); err != nil {
		t.Fatal(err)
	}
	for row, want := range map[string]string{
		`12|r1|large|acme|2026-01-01T00:00:00Z|x|eu`:   `{"specversion":"1.0","id":"r1","subject":"acme","time":"2026-01-01T00:00:00Z","source":"billing-export","type":"completion","data":{"of":{"model":"large","zone":"eu"},"tokens":12}}`,
		`12.50|r1|"q"|Zoë|||`:                          `{"specversion":"1.0","id":"r1","subject":"Zoë","source":"billing-export","type":"completion","data":{"of":{"model":"\"q\""},"tokens":12.50}}`,
		`007|r1|1e5|+1|||0.1`:                          `{"specversion":"1.0","id":"r1","subject":"+1","source":"billing-export","type":"completion","data":{"of":{"model":"1e5","zone":0.1},"tokens":"007"}}`,
		`|r1|||||`:                                     `{"specversion":"1.0","id":"r1","source":"billing-export","type":"completion","data":{"of":{}}}`,
		`-0.10|r1|.5|||| 1`:                            `{"specversion":"1.0","id":"r1","source":"billing-export","type":"completion","data":{"of":{"model":".5","zone":" 1"},"tokens":-0.10}}`,
		strings.Repeat("9", 39) + `|r1||||x|y|another`: `{"specversion":"1.0","id":"r1","source":"billing-export","type":"completion","data":{"of":{"zone":"y"},"tokens":"` + strings.Repeat("9", 39) + `"}}`,
	} {
		got, fault := m.event(nil, strings.Split(row, "|"))
		if d := cmp.Diff(want, string(got)); d != "" || fault != nil {
			t.Errorf("%s: %s, %+v", row, d, fault)
		}
	}
	for row, pointer := range map[string]string{"1": "/id", "1|r1": "/subject", "1|r1|m|a|t|u": "/data/of/zone", "1|\xff|m|a|t|u|z": "/id", "1|1|m|a|t|u|\xff": "/data/of/zone"} {
		_, fault := m.event(nil, strings.Split(row, "|"))
		if fault == nil || fault.Status != "rejected" || fault.Pointer != pointer || fault.Rule == "" || fault.Fix == "" {
			t.Errorf("%q: %+v, want %s", row, fault, pointer)
		}
	}
}

func TestRefusedMappings(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                         "is not TARGET=COLUMN",
		"id":                       "is not TARGET=COLUMN",
		"id=":                      "is not TARGET=COLUMN",
		"id=a,colour=b":            `"colour" is none of id, source, type, subject, time, traceparent and data.NAME`,
		"id=a,data.=b":             "is none of",
		"id=a,data.a..b=b":         "is none of",
		"id=a,id=b":                "id is named twice",
		"id=a,type=b":              "leave one of them out",
		"subject=a":                "--map id=COLUMN: every event has a id",
		"id=a,data.x=b,data.x.y=c": "cannot be a value and have members",
	} {
		m, err := ParseMapping(text, "t", "s")
		if err == nil {
			err = m.bind([]string{"a", "b", "c"})
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	if _, err := ParseMapping("id=a", "", "s"); err == nil || !strings.Contains(err.Error(), "--map type=COLUMN or --type") {
		t.Error(err)
	}
}

// read is a record that outlives the next one.
type read struct {
	record
	place
}

func readAll(r reader) (out []read, err error) {
	for {
		rec, err := r.next()
		if err != nil {
			return out, err
		}
		rec.text = slices.Clone(rec.text)
		out = append(out, read{rec, r.place()})
	}
}

// FuzzTable: nothing brings the reader down; each row is an event that ingest can judge, or says what is wrong; and whoever goes
// on behind any row reads what is left as if there had been no break.
func FuzzTable(f *testing.F) {
	f.Add("id,n\n1,2\n\n\"a\nb\",\"3\"\r\n4\n\"x\"y,1\n5,6")
	f.Add("id,n\r\n\"1\",2\n\"")
	f.Add("\"id\",n\n\xff,1\n")
	f.Fuzz(func(t *testing.T, text string) {
		open := func(skip place, columns []string) (*rows, []string, error) {
			m, err := ParseMapping("id=id,data.n=n,data.o.n=n", "t", "s")
			if err != nil {
				t.Fatal(err)
			}
			sum := sha256.New()
			sum.Write([]byte(text[:skip.offset]))
			return newRows(strings.NewReader(text[skip.offset:]), skip, sum, m, columns)
		}
		r, columns, err := open(place{}, nil)
		if err != nil {
			return
		}
		all, err := readAll(r)
		if !errors.Is(err, io.EOF) && !errors.Is(err, errLongRow) {
			t.Fatal(err)
		}
		for i, rec := range all {
			if rec.fault != nil {
				if rec.fault.Status != "rejected" || rec.fault.Rule == "" || rec.fault.Fix == "" {
					t.Fatalf("%+v", rec.fault)
				}
			} else if _, fault := ingest.ParseCloudEvent(rec.text, time.Unix(0, 0)); !json.Valid(rec.text) || bytes.ContainsAny(rec.text, "\r\n") || fault != nil && fault.Pointer != "/id" {
				t.Fatalf("%s: %+v", rec.text, fault)
			}
			if want := sha256.Sum256([]byte(text[:rec.offset])); rec.digest != want {
				t.Fatalf("digest at %d", rec.offset)
			}
			again, _, err := open(rec.place, columns)
			if err != nil {
				t.Fatal(err)
			}
			rest, _ := readAll(again)
			if d := cmp.Diff(all[i+1:], rest, cmp.AllowUnexported(read{}, record{}, place{})); d != "" && len(all[i+1:])+len(rest) > 0 {
				t.Fatalf("%q behind byte %d: %s", text, rec.offset, d)
			}
		}
	})
}

// FuzzLines: the same of lines.
func FuzzLines(f *testing.F) {
	f.Add("{}\n\n \r\n{}")
	f.Add("\n")
	f.Fuzz(func(t *testing.T, text string) {
		open := func(skip place) *lines {
			sum := sha256.New()
			sum.Write([]byte(text[:skip.offset]))
			return newLines(strings.NewReader(text[skip.offset:]), skip, sum)
		}
		all, err := readAll(open(place{}))
		if !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		want := 0
		for line := range strings.SplitSeq(text, "\n") {
			if strings.Trim(line, " \t\r") != "" {
				want++
			}
		}
		if len(all) != want {
			t.Fatalf("%q: %d records, want %d", text, len(all), want)
		}
		for i, rec := range all {
			rest, _ := readAll(open(rec.place))
			if d := cmp.Diff(all[i+1:], rest, cmp.AllowUnexported(read{}, record{}, place{})); d != "" && len(all[i+1:])+len(rest) > 0 {
				t.Fatalf("%q behind byte %d: %s", text, rec.offset, d)
			}
		}
	})
}
