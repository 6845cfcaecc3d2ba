package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/tallystick/tallystick/internal/app/export"
	"github.com/tallystick/tallystick/internal/store"
)

// ExportBody is a streaming export as it is shown.
type ExportBody struct {
	ID            string    `json:"id"`
	Name          string    `json:"name"`
	To            string    `json:"to" doc:"The sink; credentials stand in it as names only"`
	What          []string  `json:"what" doc:"events, ledger"`
	State         string    `json:"state" enum:"running,failing,paused"`
	Position      uint64    `json:"position" doc:"Of the last record of the journal that the sink has acknowledged, or that tells nothing"`
	Entry         int64     `json:"entry" doc:"Number of the last ledger entry that the sink has acknowledged"`
	BehindRecords uint64    `json:"behind_records" doc:"Records of the journal to go; not each of them is a message"`
	BehindEntries int64     `json:"behind_entries" doc:"Ledger entries to go, at most"`
	Failures      int       `json:"failures" doc:"Attempts that failed since the last success"`
	CreatedAt     time.Time `json:"created_at"`
	MovedAt       time.Time `json:"moved_at,omitzero" doc:"Of the last success; this and what follows are real time"`
	NextAt        time.Time `json:"next_at,omitzero" doc:"While it fails: when it is tried again"`
	LastError     string    `json:"last_error,omitempty" doc:"Kept after a success"`
	FailedAt      time.Time `json:"failed_at,omitzero" doc:"When that was"`
}

type newExportBody struct {
	Name string   `json:"name" doc:"A short name" example:"warehouse" maxLength:"64"`
	To   string   `json:"to" doc:"kafka://HOST:PORT/TOPIC or nats://HOST:PORT/SUBJECT with options" example:"kafka://broker:9092/tally" maxLength:"2048"`
	What []string `json:"what,omitempty" doc:"events, ledger; default: both" maxItems:"2"`
	From string   `json:"from,omitempty" doc:"now: what comes from now on; start: all that is kept. Default: now" enum:"now,start"`
}

// ExportRef names an export in the path.
type ExportRef struct {
	Ref string `path:"ref" doc:"Id or name" maxLength:"64"`
}

func exportOf(s export.Status) ExportBody {
	out := ExportBody{
		ID: s.ID, Name: s.Name, To: s.To, What: []string{}, State: s.State(), Position: s.Position, Entry: s.Entry, BehindRecords: s.BehindRecords,
		BehindEntries: s.BehindEntries, Failures: s.Failures, CreatedAt: instant(s.CreatedAt), MovedAt: instant(s.MovedAt), NextAt: instant(s.NextAt),
		LastError: s.LastError, FailedAt: instant(s.FailedAt),
	}
	if s.Events {
		out.What = append(out.What, export.Events)
	}
	if s.Entries {
		out.What = append(out.What, export.Ledger)
	}
	return out
}

func (a *api) exportStreams() {
	const tag = "exports"
	handle(a, operation{
		method: http.MethodPost, path: "/v1/exports", id: "create-export", tag: tag, status: http.StatusCreated,
		summary: "Stream usage events and ledger entries to Kafka or NATS JetStream",
		description: "Messages are CloudEvents 1.0 in JSON, at least once under ids that never change, in order for each customer. The topic or stream must " +
			"be there. The URL holds no credentials: it names variables that begin with TALLY_EXPORT_, or files in secrets/exports, of the server.",
	}, func(ctx context.Context, in *struct{ Body newExportBody }) (ExportBody, error) {
		s, err := a.cfg.Exports.Create(ctx, operator, export.NewExport(in.Body))
		return exportOf(s), err
	})
	handle(a, operation{
		method: http.MethodGet, path: "/v1/exports", id: "list-exports", tag: tag, summary: "List streaming exports, newest first",
	}, func(ctx context.Context, in *Paging) (listBody[ExportBody], error) {
		const kind = "export-streams"
		from, err := placeOfID(kind, "exp_", in.Cursor)
		if err != nil {
			return listBody[ExportBody]{}, err
		}
		rows, err := a.cfg.Exports.List(ctx, store.Query{Cursor: from, Limit: in.fetch()})
		return listOf(*in, kind, rows, func(s export.Status) string { return s.ID }, exportOf), err
	})
	handle(a, operation{
		method: http.MethodGet, path: "/v1/exports/{ref}", id: "get-export", tag: tag, summary: "Show an export: how far it is, what is left, and its last error",
	}, func(ctx context.Context, in *ExportRef) (ExportBody, error) {
		s, err := a.cfg.Exports.Get(ctx, in.Ref)
		return exportOf(s), notFoundAs(err, "export")
	})
	for _, verb := range []string{"pause", "resume"} {
		handle(a, operation{
			method: http.MethodPost, path: "/v1/exports/{ref}/" + verb, id: verb + "-export", tag: tag,
			summary: map[string]string{"pause": "Send nothing for now", "resume": "Go on where it was, at once"}[verb] + "; doing it again changes nothing",
		}, func(ctx context.Context, in *struct {
			ExportRef
			Body *struct{}
		},
		) (ExportBody, error) {
			s, err := a.cfg.Exports.Pause(ctx, operator, in.Ref, verb == "pause")
			return exportOf(s), notFoundAs(err, "export")
		})
	}
	handle(a, operation{
		method: http.MethodDelete, path: "/v1/exports/{ref}", id: "delete-export", tag: tag, summary: "End an export; what was sent stays where it is",
		description: "Its place is forgotten: another export begins at now or at the start. The answer shows it as it last was.",
	}, func(ctx context.Context, in *ExportRef) (ExportBody, error) {
		s, err := a.cfg.Exports.Delete(ctx, operator, in.Ref)
		return exportOf(s), notFoundAs(err, "export")
	})
}
