package cli

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// exporter is a server of archives with one file each, whose second part fails so many times.
type exporter struct {
	t     *testing.T
	fails int
	asked []string // cursors
	forge bool
}

func (x *exporter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	cursor := r.URL.Query().Get("cursor")
	x.asked = append(x.asked, cursor)
	list, body := part{}, []byte("first")
	item := partItem{File: "invoice-2.pdf", InvoiceID: "inv_2", Format: "pdf"}
	if cursor == "" {
		list.Next = new("c1")
	} else {
		body, item.File = []byte("second"), "invoice-1.pdf"
	}
	sum := sha256.Sum256(body)
	if item.SHA256 = hex.EncodeToString(sum[:]); x.forge {
		body = []byte("forged")
	}
	list.Items = append(list.Items, item)
	z := zip.NewWriter(w)
	f, err := z.Create(item.File)
	if err != nil {
		x.t.Error(err)
	}
	_, _ = f.Write(body)
	if cursor != "" && x.fails > 0 {
		x.fails--
		_ = z.Flush()
		panic(http.ErrAbortHandler)
	}
	if f, err = z.Create("manifest.json"); err != nil {
		x.t.Error(err)
	}
	_ = json.NewEncoder(f).Encode(list)
	_ = z.Close()
}

func download(t *testing.T, x *exporter, to string) (string, error) {
	t.Helper()
	s := httptest.NewServer(x)
	defer s.Close()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "client.json"), []byte(`{"api":"`+s.URL+`","token":"t"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	var progress bytes.Buffer
	e := &Env{Ctx: t.Context(), Stdout: io.Discard, Stderr: &progress, Dir: dir, Wait: func(context.Context, time.Duration) error { return nil }}
	err := (&invoicesDownloadCmd{Format: "pdf", To: to, Part: 1}).Run(e)
	return progress.String(), err
}

// TestDownloadGoesOn: a line that breaks is tried again; when it stays broken, the next run goes on after the parts that were whole.
func TestDownloadGoesOn(t *testing.T) {
	t.Parallel()
	to := filepath.Join(t.TempDir(), "out")
	x := &exporter{t: t, fails: 100}
	if _, err := download(t, x, to); err == nil || !strings.Contains(err.Error(), "goes on from here") {
		t.Fatalf("a line that stays broken: %v", err)
	}
	if b, err := os.ReadFile(filepath.Join(to, "invoice-2.pdf")); err != nil || string(b) != "first" {
		t.Errorf("the first part: %q, %v", b, err)
	}
	x.asked, x.fails = nil, 1
	progress, err := download(t, x, to)
	if err != nil || strings.Join(x.asked, " ") != "c1 c1" || !strings.Contains(progress, "going on") {
		t.Errorf("the second run asked %q: %v\n%s", x.asked, err, progress)
	}
	files, err := os.ReadDir(to)
	if err != nil || len(files) != 2 {
		t.Errorf("%v is left: %v", files, err)
	}
}

// TestDownloadChecks: what is not what the manifest says is not kept.
func TestDownloadChecks(t *testing.T) {
	t.Parallel()
	to := filepath.Join(t.TempDir(), "out")
	if _, err := download(t, &exporter{t: t, forge: true}, to); err == nil || !strings.Contains(err.Error(), "not what the manifest says") {
		t.Errorf("a forged file: %v", err)
	}
	for _, name := range []string{"../x", ".hidden", "", "a/b"} {
		if _, err := content(nil, &partItem{File: name}); err == nil {
			t.Errorf("a file of the name %q is taken", name)
		}
	}
	archive := filepath.Join(t.TempDir(), "all.zip")
	if _, err := download(t, &exporter{t: t}, archive); err != nil {
		t.Fatal(err)
	}
	r, err := zip.OpenReader(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if len(r.File) != 3 {
		t.Errorf("the archive has %d files", len(r.File))
	}
}
