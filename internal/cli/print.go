package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// PrintJSON writes one document.
func PrintJSON(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return printRaw(w, b)
}

func printRaw(w io.Writer, b json.RawMessage) error {
	var out bytes.Buffer
	if err := json.Indent(&out, bytes.TrimSpace(b), "", "  "); err != nil {
		return fmt.Errorf("the server's answer is not JSON: %w", err)
	}
	_, err := fmt.Fprintln(w, out.String())
	return err
}

// print writes the server's document as it is, or as text.
func (e *Env) print(b json.RawMessage, text func(w io.Writer, d doc) error) error {
	if e.JSON {
		return printRaw(e.Stdout, b)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var d doc
	if err := dec.Decode(&d); err != nil {
		return fmt.Errorf("the server's answer is not JSON: %w", err)
	}
	var out bytes.Buffer
	tw := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	if err := text(tw, d); err != nil {
		return err
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	return trimmed(e.Stdout, out.Bytes())
}

// trimmed writes lines without the blanks that pad an empty last column.
func trimmed(w io.Writer, text []byte) error {
	var out bytes.Buffer
	for line := range bytes.Lines(text) {
		out.Write(bytes.TrimRight(line, " \n"))
		out.WriteByte('\n')
	}
	_, err := w.Write(out.Bytes())
	return err
}

// doc is a decoded answer, read leniently for people's eyes.
type doc map[string]any

// s is a field as text; nested fields by dots. Absent: "".
func (d doc) s(path string) string {
	var v any = map[string]any(d)
	for part := range strings.SplitSeq(path, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return ""
		}
		v = m[part]
	}
	switch v := v.(type) {
	case nil:
		return ""
	case []any:
		var ss []string
		for _, x := range v {
			ss = append(ss, fmt.Sprint(x))
		}
		return strings.Join(ss, ", ")
	default:
		return fmt.Sprint(v)
	}
}

// list is a field's elements that are objects.
func (d doc) list(key string) []doc {
	var out []doc
	items, _ := d[key].([]any) // absent: none
	for _, it := range items {
		if m, ok := it.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

// child is a document inside; empty without one.
func (d doc) child(key string) doc {
	m, _ := d[key].(map[string]any)
	return m
}

// table prints one row an element of "items", with a head.
func table(heads string, fields ...string) func(io.Writer, doc) error {
	return func(w io.Writer, d doc) error {
		if _, err := fmt.Fprintln(w, strings.ReplaceAll(heads, "|", "\t")); err != nil {
			return err
		}
		for _, it := range d.list("items") {
			row := make([]string, len(fields))
			for i, f := range fields {
				row[i] = it.s(f)
			}
			if _, err := fmt.Fprintln(w, strings.Join(row, "\t")); err != nil {
				return err
			}
		}
		return nil
	}
}

// fields prints one line a field.
func fields(names ...string) func(io.Writer, doc) error {
	return func(w io.Writer, d doc) error {
		for _, n := range names {
			if v := d.s(n); v != "" {
				if _, err := fmt.Fprintf(w, "%s\t%s\n", n, v); err != nil {
					return err
				}
			}
		}
		return nil
	}
}
