package cli

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/cli/problem"
)

// Bounds of a download.
const (
	partTries  = 4
	partWait   = 2 * time.Second // before the second try, longer before each further one
	fileMax    = 64 << 20        // of one file of an archive
	resumeFile = ".tally-download.json"
)

type invoicesDownloadCmd struct {
	IDs      []string `arg:"" optional:"" help:"Ids of invoices; default: all that the flags leave." name:"id"`
	Period   string   `help:"Only invoices whose billing period begins in this month." placeholder:"YYYY-MM"`
	Customer string   `help:"Only this customer's." placeholder:"CUSTOMER"`
	Format   string   `help:"pdf, ubl, csv, json; several with commas between them." default:"pdf"`
	To       string   `help:"Folder, or archive by a name that ends in .zip." default:"invoices" placeholder:"DIR|FILE.zip"`
	Part     int      `help:"Invoices in one request." default:"200"`
}

// part is the manifest of an archive of the server.
type part struct {
	Items []partItem `json:"items"`
	Next  *string    `json:"next"`
}

type partItem struct {
	File      string `json:"file,omitempty"`
	InvoiceID string `json:"invoice_id"`
	Number    string `json:"number"`
	Format    string `json:"format"`
	Bytes     int    `json:"bytes,omitempty"`
	SHA256    string `json:"sha256,omitempty"`
	Error     string `json:"error,omitempty"`
}

// downloaded is what a download did.
type downloaded struct {
	To      string     `json:"to"`
	Files   int        `json:"files"`
	Skipped int        `json:"skipped"` // were there already, byte for byte
	Bytes   int64      `json:"bytes"`
	Errors  []partItem `json:"errors"`
}

func (c *invoicesDownloadCmd) Run(e *Env) error {
	cl, err := newClient(e)
	if err != nil {
		return err
	}
	cl.http.Timeout = 0 // an archive may take long; the process's context ends it
	out := downloaded{To: c.To, Errors: []partItem{}}
	switch {
	case len(c.IDs) > 0:
		err = c.named(e, cl, &out)
	case strings.HasSuffix(c.To, ".zip"):
		err = c.archive(e, cl, &out)
	default:
		err = c.folder(e, cl, &out)
	}
	if err != nil {
		return err
	}
	for _, i := range out.Errors {
		fmt.Fprintf(e.Stderr, "%s as %s: %s\n", i.InvoiceID, i.Format, i.Error)
	}
	if e.JSON {
		if err := PrintJSON(e.Stdout, out); err != nil {
			return err
		}
	} else if _, err := fmt.Fprintf(e.Stdout, "%d files in %s, %d of them were there already, %d bytes\n", out.Files, out.To, out.Skipped, out.Bytes); err != nil {
		return err
	}
	if len(out.Errors) > 0 {
		return fmt.Errorf("%d documents could not be made", len(out.Errors))
	}
	return nil
}

// query is what the archive is asked for.
func (c *invoicesDownloadCmd) query() url.Values {
	q := url.Values{"format": {c.Format}, "limit": {strconv.Itoa(c.Part)}}
	for name, value := range map[string]string{"period": c.Period, "customer": c.Customer} {
		if value != "" {
			q.Set(name, value)
		}
	}
	return q
}

// named takes single invoices.
func (c *invoicesDownloadCmd) named(e *Env, cl *client, out *downloaded) error {
	if c.Period != "" || c.Customer != "" || strings.HasSuffix(c.To, ".zip") {
		return errors.New("with ids there is no --period, no --customer and no archive")
	}
	if err := os.MkdirAll(c.To, 0o700); err != nil {
		return err
	}
	for _, id := range c.IDs {
		for form := range strings.SplitSeq(c.Format, ",") {
			path := "/v1/invoices/" + url.PathEscape(id)
			if form != "json" {
				path += "/" + url.PathEscape(form)
			}
			resp, err := cl.open(e.Ctx, path, nil)
			if err != nil {
				return err
			}
			b, err := io.ReadAll(io.LimitReader(resp.Body, fileMax))
			_ = resp.Body.Close() // it was read
			if err != nil {
				return fmt.Errorf("read invoice %s: %w", id, err)
			}
			_, params, _ := mime.ParseMediaType(resp.Header.Get("Content-Disposition")) // without one the id is the name
			name := filepath.Base(params["filename"])
			if params["filename"] == "" {
				name = filepath.Base(id) + "." + filepath.Base(form)
			}
			if err := out.keep(filepath.Join(c.To, name), b); err != nil {
				return err
			}
		}
	}
	return nil
}

// resumption is what an unfinished download left in its folder.
type resumption struct{ Query, Cursor string }

// folder takes part after part, each checked and then unpacked. What a broken download had finished is not asked for again, and
// a file that is there byte for byte is not written.
func (c *invoicesDownloadCmd) folder(e *Env, cl *client, out *downloaded) error {
	if err := os.MkdirAll(c.To, 0o700); err != nil {
		return err
	}
	q, state := c.query(), filepath.Join(c.To, resumeFile)
	asked := q.Encode()
	var left resumption
	if b, err := os.ReadFile(state); err == nil && json.Unmarshal(b, &left) == nil && left.Query == asked {
		q.Set("cursor", left.Cursor)
		fmt.Fprintln(e.Stderr, "going on where the last download broke off")
	}
	err := c.parts(e, cl, q, func(r *zip.Reader, list *part) error {
		for _, i := range list.Items {
			if i.Error != "" {
				out.Errors = append(out.Errors, i)
				continue
			}
			b, err := content(r, &i)
			if err != nil {
				return err
			}
			if err := out.keep(filepath.Join(c.To, i.File), b); err != nil {
				return err
			}
		}
		if list.Next == nil {
			return nil
		}
		b, err := json.Marshal(resumption{asked, *list.Next})
		if err != nil {
			return err
		}
		return replace(state, b)
	}, out)
	if err != nil {
		return fmt.Errorf("%w; the same command goes on from here", err)
	}
	if err := os.Remove(state); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// archive puts all parts into one file, which appears when it is whole.
func (c *invoicesDownloadCmd) archive(e *Env, cl *client, out *downloaded) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(c.To), ".tally-*.zip")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) //nolint:errcheck // renamed, or not wanted
	defer tmp.Close()           //nolint:errcheck // closed before, or the command fails
	all, w := part{Items: []partItem{}}, zip.NewWriter(tmp)
	err = c.parts(e, cl, c.query(), func(r *zip.Reader, list *part) error {
		all.Items = append(all.Items, list.Items...)
		for _, f := range r.File {
			if f.Name == "manifest.json" {
				continue
			}
			if err := w.Copy(f); err != nil {
				return err
			}
			out.Files++
			out.Bytes += int64(f.UncompressedSize64) //nolint:gosec // bounded by the archive
		}
		for _, i := range list.Items {
			if i.Error != "" {
				out.Errors = append(out.Errors, i)
			}
		}
		return nil
	}, out)
	if err != nil {
		return err
	}
	f, err := w.Create("manifest.json")
	if err != nil {
		return err
	}
	if err := json.NewEncoder(f).Encode(all); err != nil {
		return err
	}
	for _, err := range []error{w.Close(), tmp.Sync(), tmp.Close()} {
		if err != nil {
			return err
		}
	}
	return os.Rename(tmp.Name(), c.To)
}

// parts asks for one part after the other and hands each out, whole and checked.
func (c *invoicesDownloadCmd) parts(e *Env, cl *client, q url.Values, use func(*zip.Reader, *part) error, out *downloaded) error {
	for n := 1; ; n++ {
		next, err := c.one(e, cl, q, use)
		if err != nil {
			return err
		}
		fmt.Fprintf(e.Stderr, "part %d: %d files, %d bytes\n", n, out.Files, out.Bytes)
		if next == nil {
			return nil
		}
		q.Set("cursor", *next)
	}
}

// one takes one part, and tries again where the line broke.
func (c *invoicesDownloadCmd) one(e *Env, cl *client, q url.Values, use func(*zip.Reader, *part) error) (next *string, err error) {
	tmp, err := os.CreateTemp("", "tally-*.zip")
	if err != nil {
		return nil, err
	}
	defer os.Remove(tmp.Name()) //nolint:errcheck // a temporary file
	defer tmp.Close()           //nolint:errcheck // as above
	var r *zip.Reader
	list := &part{}
	for try := 1; ; try++ {
		if r, err = cl.fetch(e.Ctx, q, tmp, list); err == nil {
			break
		}
		var refused *problem.Answer
		if errors.As(err, &refused) && refused.Status < http.StatusInternalServerError || try == partTries || e.Ctx.Err() != nil {
			return nil, err
		}
		fmt.Fprintf(e.Stderr, "%v; trying again\n", err)
		if err := e.Wait(e.Ctx, time.Duration(try)*partWait); err != nil {
			return nil, err
		}
	}
	return list.Next, use(r, list)
}

// fetch reads an archive into a file and checks it against its manifest.
func (c *client) fetch(ctx context.Context, q url.Values, tmp *os.File, list *part) (*zip.Reader, error) {
	if err := tmp.Truncate(0); err != nil {
		return nil, err
	}
	if _, err := tmp.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	resp, err := c.open(ctx, "/v1/exports/invoices", q)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // it was read to the end or the part fails
	n, err := io.Copy(tmp, resp.Body)
	if err != nil {
		return nil, fmt.Errorf("the line broke: %w", err)
	}
	r, err := zip.NewReader(tmp, n)
	if err != nil {
		return nil, fmt.Errorf("the archive is not whole: %w", err)
	}
	m, err := r.Open("manifest.json")
	if err != nil {
		return nil, fmt.Errorf("the archive has no manifest: %w", err)
	}
	defer m.Close() //nolint:errcheck // read only
	*list = part{}
	if err := json.NewDecoder(io.LimitReader(m, fileMax)).Decode(list); err != nil {
		return nil, fmt.Errorf("the archive's manifest: %w", err)
	}
	for i := range list.Items {
		if list.Items[i].Error != "" {
			continue
		}
		if _, err := content(r, &list.Items[i]); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// content is a file of an archive, checked.
func content(r *zip.Reader, i *partItem) ([]byte, error) {
	if i.File == "" || i.File != filepath.Base(i.File) || strings.HasPrefix(i.File, ".") {
		return nil, fmt.Errorf("the archive has a file of the name %q", i.File)
	}
	f, err := r.Open(i.File)
	if err != nil {
		return nil, fmt.Errorf("%s of the archive: %w", i.File, err)
	}
	defer f.Close() //nolint:errcheck // read only
	b, err := io.ReadAll(io.LimitReader(f, fileMax))
	if err != nil {
		return nil, fmt.Errorf("%s of the archive: %w", i.File, err)
	}
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != i.SHA256 {
		return nil, fmt.Errorf("%s of the archive is not what the manifest says", i.File)
	}
	return b, nil
}

// keep writes a file, unless it is there byte for byte.
func (d *downloaded) keep(path string, b []byte) error {
	d.Files++
	d.Bytes += int64(len(b))
	if old, err := os.ReadFile(path); err == nil && string(old) == string(b) {
		d.Skipped++
		return nil
	}
	return replace(path, b)
}

// replace writes a file that is there whole or not at all.
func replace(path string, b []byte) error {
	tmp := path + ".part"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// open begins to read an answer of any type; a problem comes back as *problem.Answer.
func (c *client) open(ctx context.Context, path string, query url.Values) (*http.Response, error) {
	u := c.API + path
	if len(query) > 0 {
		u += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.Token)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreached(err)
	}
	if resp.StatusCode < http.StatusMultipleChoices {
		return resp, nil
	}
	defer resp.Body.Close() //nolint:errcheck // the command fails
	p := &problem.Answer{Status: resp.StatusCode, Title: resp.Status}
	b, err := io.ReadAll(io.LimitReader(resp.Body, answerMax))
	if err == nil {
		_ = json.Unmarshal(b, p) // an answer that is no problem document still has its status
	}
	return nil, p
}
