-- Times are microseconds since 1970 in UTC; NULL is "none". Decimals are plain text, posted money is minor units. Texts sort by
-- their bytes, as they do in SQLite. This is the schema of SQLite's migrations 1 to 15, and who leads.

-- +goose Up
CREATE TABLE catalogs (
    version bigint PRIMARY KEY CHECK (version > 0),
    source bytea NOT NULL,
    digest bytea NOT NULL CHECK (length(digest) = 32),
    applied_at bigint NOT NULL,
    applied_by text COLLATE "C" NOT NULL
);

CREATE TABLE customers (
    id text COLLATE "C" PRIMARY KEY,
    key text COLLATE "C" NOT NULL UNIQUE,
    name text COLLATE "C" NOT NULL,
    zone text COLLATE "C" NOT NULL,
    currency text COLLATE "C" NOT NULL,
    created_at bigint NOT NULL,
    billing text COLLATE "C" NOT NULL DEFAULT '{}'
);

CREATE TABLE subscriptions (
    id text COLLATE "C" PRIMARY KEY,
    customer_id text COLLATE "C" NOT NULL REFERENCES customers (id),
    plan text COLLATE "C" NOT NULL,
    catalog_version bigint NOT NULL,
    start_at bigint NOT NULL,
    end_at bigint, -- NULL: open
    billing_day bigint NOT NULL,
    created_at bigint NOT NULL,
    until_at bigint
);

CREATE TABLE api_keys (
    id text COLLATE "C" PRIMARY KEY,
    customer_id text COLLATE "C" NOT NULL REFERENCES customers (id),
    name text COLLATE "C" NOT NULL,
    digest bytea NOT NULL UNIQUE CHECK (length(digest) = 32),
    hint text COLLATE "C" NOT NULL,
    created_at bigint NOT NULL,
    expires_at bigint, -- NULL: never
    revoked_at bigint,  -- NULL: not revoked
    project text COLLATE "C" NOT NULL DEFAULT ''
);

CREATE TABLE closes (
    subscription_id text COLLATE "C" NOT NULL REFERENCES subscriptions (id),
    period_start bigint NOT NULL,
    period_end bigint NOT NULL,
    position bigint NOT NULL CHECK (position >= 0),
    closed_at bigint NOT NULL,
    invoice_id text COLLATE "C" NOT NULL DEFAULT '' CHECK (invoice_id = '' OR done),
    done boolean NOT NULL DEFAULT false,
    progressive boolean NOT NULL DEFAULT false,
    catalog_version bigint NOT NULL DEFAULT 0,
    changes bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (subscription_id, period_start, period_end)
);

CREATE TABLE invoices (
    number bigint PRIMARY KEY,
    id text COLLATE "C" NOT NULL UNIQUE,
    customer_id text COLLATE "C" NOT NULL REFERENCES customers (id),
    subscription_id text COLLATE "C" NOT NULL REFERENCES subscriptions (id),
    plan text COLLATE "C" NOT NULL,
    status text COLLATE "C" NOT NULL CHECK (status = 'finalized'),
    currency text COLLATE "C" NOT NULL,
    period_start bigint NOT NULL,
    period_end bigint NOT NULL,
    total_minor bigint NOT NULL,
    catalog_version bigint NOT NULL,
    tz_version text COLLATE "C" NOT NULL,
    position bigint NOT NULL CHECK (position >= 0),
    finalized_at bigint NOT NULL,
    document text COLLATE "C",
    series text COLLATE "C" NOT NULL DEFAULT '',
    series_number bigint
);

CREATE TABLE invoice_lines (
    invoice_id text COLLATE "C" NOT NULL REFERENCES invoices (id) DEFERRABLE INITIALLY DEFERRED,
    number bigint NOT NULL CHECK (number > 0),
    id text COLLATE "C" NOT NULL UNIQUE,
    kind text COLLATE "C" NOT NULL,
    price text COLLATE "C" NOT NULL,
    meter text COLLATE "C" NOT NULL,
    period_start bigint NOT NULL,
    period_end bigint NOT NULL,
    quantity text COLLATE "C" NOT NULL,
    tiers text COLLATE "C", -- JSON; NULL: none
    exact text COLLATE "C" NOT NULL,
    rounded_minor bigint NOT NULL,
    PRIMARY KEY (invoice_id, number)
);

CREATE TABLE epochs (
    node bigint NOT NULL,
    epoch bigint NOT NULL CHECK (epoch BETWEEN 1 AND 4294967295),
    boot text COLLATE "C" NOT NULL,
    begun_at bigint NOT NULL,
    PRIMARY KEY (node, epoch)
);

CREATE TABLE audits (
    id text COLLATE "C" PRIMARY KEY,
    time bigint NOT NULL,
    actor text COLLATE "C" NOT NULL,
    action text COLLATE "C" NOT NULL,
    target text COLLATE "C" NOT NULL,
    detail text COLLATE "C" NOT NULL
);

CREATE TABLE replays (
    actor text COLLATE "C" NOT NULL,
    route text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    body_digest bytea NOT NULL CHECK (length(body_digest) = 32),
    status bigint NOT NULL, -- 0: the first call is still running
    sealed bytea,
    created_at bigint NOT NULL,
    PRIMARY KEY (actor, route, key)
);

CREATE TABLE settings (
    name text COLLATE "C" PRIMARY KEY,
    value text COLLATE "C" NOT NULL
);

CREATE TABLE backfills (
    id text COLLATE "C" PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    reason text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL CHECK (state IN ('open', 'closing', 'closed', 'reverting', 'reverted')),
    opened_at bigint NOT NULL,
    opened_by text COLLATE "C" NOT NULL,
    changed_at bigint NOT NULL,
    changed_by text COLLATE "C" NOT NULL,
    changed_for text COLLATE "C" NOT NULL DEFAULT '',
    cursor text COLLATE "C" NOT NULL DEFAULT '',
    events bigint NOT NULL DEFAULT 0 CHECK (events >= 0),
    counted bigint NOT NULL DEFAULT 0 CHECK (counted >= 0),
    unmatched bigint NOT NULL DEFAULT 0 CHECK (unmatched >= 0),
    voided bigint NOT NULL DEFAULT 0 CHECK (voided >= 0)
);

CREATE TABLE aliases (
    id text COLLATE "C" PRIMARY KEY,
    kind text COLLATE "C" NOT NULL CHECK (kind IN ('type', 'customer')),
    name text COLLATE "C" NOT NULL,
    target text COLLATE "C" NOT NULL,
    created_at bigint NOT NULL,
    created_by text COLLATE "C" NOT NULL,
    UNIQUE (kind, name)
);

CREATE TABLE sealer (
    one bigint PRIMARY KEY CHECK (one = 1),
    fence bigint NOT NULL CHECK (fence > 0)
);

CREATE TABLE checkpoints (
    size bigint PRIMARY KEY CHECK (size > 0),
    root bytea NOT NULL CHECK (length(root) = 32),
    time bigint NOT NULL,
    note bytea NOT NULL
);

CREATE TABLE sealed_closes (
    subscription_id text COLLATE "C" NOT NULL,
    period_start bigint NOT NULL,
    period_end bigint NOT NULL,
    invoice_id text COLLATE "C" NOT NULL,
    position bigint NOT NULL CHECK (position > 0),
    PRIMARY KEY (subscription_id, period_start, period_end)
);

CREATE TABLE subject_keys (
    subject text COLLATE "C" PRIMARY KEY,
    key bytea NOT NULL CHECK (length(key) = 32)
);

CREATE TABLE producers (
    id text COLLATE "C" PRIMARY KEY,
    key text COLLATE "C" NOT NULL UNIQUE,
    sources text COLLATE "C" NOT NULL, -- JSON array of patterns
    types text COLLATE "C" NOT NULL, -- JSON array of patterns
    created_at bigint NOT NULL,
    expires_at bigint, -- NULL: never
    revoked_at bigint  -- NULL: not revoked
);

CREATE TABLE producer_tokens (
    id text COLLATE "C" PRIMARY KEY,
    producer_id text COLLATE "C" NOT NULL REFERENCES producers (id),
    digest bytea NOT NULL UNIQUE CHECK (length(digest) = 32),
    hint text COLLATE "C" NOT NULL,
    created_at bigint NOT NULL,
    revoked_at bigint -- NULL: not revoked
);

CREATE TABLE gateway_keys (
    n bigint GENERATED BY DEFAULT AS IDENTITY, -- in order of storing
    id text COLLATE "C" PRIMARY KEY,
    node bigint NOT NULL,
    public bytea NOT NULL UNIQUE CHECK (length(public) = 32),
    from_epoch bigint NOT NULL CHECK (from_epoch > 0), -- good until the node's next key
    created_at bigint NOT NULL
);

CREATE TABLE gateway_progress (
    node bigint NOT NULL,
    epoch bigint NOT NULL,
    sequence bigint NOT NULL CHECK (sequence > 0),
    covered bigint NOT NULL CHECK (covered >= 0),
    PRIMARY KEY (node, epoch)
);

CREATE TABLE gateway_findings (
    node bigint NOT NULL,
    reason text COLLATE "C" NOT NULL,
    count bigint NOT NULL CHECK (count > 0),
    first_at bigint NOT NULL,
    last_at bigint NOT NULL,
    detail text COLLATE "C" NOT NULL, -- of the last one
    PRIMARY KEY (node, reason)
);

CREATE TABLE recounts (
    id text COLLATE "C" PRIMARY KEY,
    meter text COLLATE "C" NOT NULL,
    from_at bigint, -- NULL: open
    to_at bigint,
    dry_run boolean NOT NULL,
    include_closed boolean NOT NULL,
    actor text COLLATE "C" NOT NULL,
    reason text COLLATE "C" NOT NULL,
    catalog_version bigint NOT NULL,
    created_at bigint NOT NULL,
    state text COLLATE "C" NOT NULL CHECK (state IN ('running', 'done', 'cancelled', 'failed')),
    updated_at bigint NOT NULL,
    cursor text COLLATE "C" NOT NULL,
    done bigint NOT NULL CHECK (done >= 0),
    total bigint NOT NULL CHECK (total >= 0),
    last boolean NOT NULL,
    seen bigint NOT NULL CHECK (seen >= 0),
    read bigint NOT NULL,
    changed bigint NOT NULL,
    closed bigint NOT NULL,
    admitted bigint NOT NULL,
    unreadable bigint NOT NULL,
    difference text COLLATE "C" NOT NULL,
    problem text COLLATE "C" NOT NULL
);

CREATE TABLE leases (
    customer_id text COLLATE "C" NOT NULL,
    meter text COLLATE "C" NOT NULL,
    scope text COLLATE "C" NOT NULL,
    "window" bigint NOT NULL,
    length bigint NOT NULL,
    window_start bigint NOT NULL,
    node bigint NOT NULL,
    epoch bigint NOT NULL,
    boot text COLLATE "C" NOT NULL,
    window_end bigint NOT NULL,
    charged bigint NOT NULL CHECK (charged >= 0),
    settled bigint NOT NULL DEFAULT 0 CHECK (settled BETWEEN 0 AND charged),
    written_off bigint NOT NULL DEFAULT 0 CHECK (written_off BETWEEN 0 AND charged),
    closed boolean NOT NULL DEFAULT false,
    PRIMARY KEY (customer_id, meter, scope, "window", length, window_start, node, epoch)
);

CREATE TABLE overrides (
    id text COLLATE "C" PRIMARY KEY,
    customer_id text COLLATE "C" NOT NULL REFERENCES customers (id),
    key_id text COLLATE "C" NOT NULL, -- '': the customer's own
    limit_key text COLLATE "C" NOT NULL,
    value text COLLATE "C" NOT NULL,
    burst text COLLATE "C" NOT NULL, -- '': as in the plan
    reason text COLLATE "C" NOT NULL,
    author text COLLATE "C" NOT NULL,
    created_at bigint NOT NULL,
    expires_at bigint, -- NULL: never
    ended_at bigint  -- NULL: not taken back
);

CREATE TABLE grants (
    id text COLLATE "C" PRIMARY KEY,
    customer_id text COLLATE "C" NOT NULL REFERENCES customers (id),
    meter text COLLATE "C" NOT NULL,
    amount text COLLATE "C" NOT NULL, -- units; negative: what a grant lost
    grant_id text COLLATE "C" NOT NULL, -- '': a grant of its own
    reason text COLLATE "C" NOT NULL,
    author text COLLATE "C" NOT NULL,
    created_at bigint NOT NULL,
    effective_at bigint NOT NULL,
    expires_at bigint, -- NULL: never
    kind text COLLATE "C" NOT NULL DEFAULT 'promotional',
    priority bigint NOT NULL DEFAULT 0,
    meters text COLLATE "C" NOT NULL DEFAULT '[]',
    every text COLLATE "C" NOT NULL DEFAULT '',
    anchor bigint,
    min_rollover text COLLATE "C" NOT NULL DEFAULT '',
    max_rollover text COLLATE "C" NOT NULL DEFAULT '',
    paid text COLLATE "C" NOT NULL DEFAULT '0',
    once text COLLATE "C" NOT NULL DEFAULT ''
);

CREATE TABLE notices (
    id text COLLATE "C" PRIMARY KEY,
    kind text COLLATE "C" NOT NULL,
    customer_id text COLLATE "C" NOT NULL REFERENCES customers (id),
    once text COLLATE "C" NOT NULL UNIQUE,
    at bigint NOT NULL,
    body bytea NOT NULL
);

CREATE TABLE webhooks (
    id text COLLATE "C" PRIMARY KEY,
    url text COLLATE "C" NOT NULL,
    kinds text COLLATE "C" NOT NULL, -- JSON array; empty: all
    created_at bigint NOT NULL,
    disabled_at bigint -- NULL: in use
);

CREATE TABLE deliveries (
    notice_id text COLLATE "C" NOT NULL REFERENCES notices (id) ON DELETE CASCADE,
    webhook_id text COLLATE "C" NOT NULL REFERENCES webhooks (id),
    state text COLLATE "C" NOT NULL CHECK (state IN ('due', 'delivered', 'failed')),
    attempts bigint NOT NULL,
    next_at bigint, -- NULL unless due
    last_at bigint,
    last_error text COLLATE "C" NOT NULL,
    PRIMARY KEY (notice_id, webhook_id)
);

CREATE TABLE gateway_nodes (
    node bigint PRIMARY KEY CHECK (node BETWEEN 2 AND 65535),
    name text COLLATE "C" NOT NULL UNIQUE,
    created_at bigint NOT NULL,
    revoked_at bigint -- NULL: not revoked
);

CREATE TABLE gateway_tokens (
    id text COLLATE "C" PRIMARY KEY,
    node bigint NOT NULL REFERENCES gateway_nodes (node),
    digest bytea NOT NULL UNIQUE CHECK (length(digest) = 32),
    hint text COLLATE "C" NOT NULL,
    created_at bigint NOT NULL,
    revoked_at bigint -- NULL: not revoked
);

CREATE TABLE refunds (
    id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    customer_id text COLLATE "C" NOT NULL,
    day bigint NOT NULL, -- local midnight
    route text COLLATE "C" NOT NULL,
    meter text COLLATE "C" NOT NULL,
    reason text COLLATE "C" NOT NULL,
    refused boolean NOT NULL,
    count bigint NOT NULL CHECK (count >= 0),
    cost text COLLATE "C" NOT NULL, -- the meter's unit
    UNIQUE (customer_id, day, route, meter, reason, refused)
);

CREATE TABLE subscription_changes (
    id text COLLATE "C" PRIMARY KEY,
    subscription_id text COLLATE "C" NOT NULL REFERENCES subscriptions (id),
    at bigint NOT NULL,
    kind text COLLATE "C" NOT NULL,
    plan text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    key text COLLATE "C" NOT NULL,
    quantity text COLLATE "C" NOT NULL,
    price text COLLATE "C", -- JSON; NULL: none
    until bigint,
    now boolean NOT NULL,
    reason text COLLATE "C" NOT NULL,
    actor text COLLATE "C" NOT NULL,
    created_at bigint NOT NULL
);

CREATE TABLE ledger_entries (
    n bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, -- in order of storing
    id text COLLATE "C" NOT NULL UNIQUE,
    key text COLLATE "C" NOT NULL UNIQUE,
    kind text COLLATE "C" NOT NULL,
    customer_id text COLLATE "C" NOT NULL REFERENCES customers (id),
    reference text COLLATE "C" NOT NULL,
    at bigint NOT NULL
);

CREATE TABLE ledger_postings (
    entry_id text COLLATE "C" NOT NULL REFERENCES ledger_entries (id) DEFERRABLE INITIALLY DEFERRED,
    number bigint NOT NULL CHECK (number > 0),
    account text COLLATE "C" NOT NULL,
    customer_id text COLLATE "C" NOT NULL, -- empty: an account of the seller alone
    currency text COLLATE "C" NOT NULL,
    minor bigint NOT NULL CHECK (minor <> 0), -- above 0 a debit
    PRIMARY KEY (entry_id, number)
);

CREATE TABLE invoice_standings (
    invoice_id text COLLATE "C" NOT NULL REFERENCES invoices (id) DEFERRABLE INITIALLY DEFERRED,
    turn bigint NOT NULL CHECK (turn > 0),
    customer_id text COLLATE "C" NOT NULL REFERENCES customers (id),
    status text COLLATE "C" NOT NULL CHECK (status IN ('finalized', 'paid', 'void', 'uncollectible')),
    currency text COLLATE "C" NOT NULL,
    total bigint NOT NULL,
    applied bigint NOT NULL CHECK (applied >= 0),
    paid bigint NOT NULL CHECK (paid >= 0),
    credited bigint NOT NULL CHECK (credited >= 0),
    credited_due bigint NOT NULL CHECK (credited_due BETWEEN 0 AND credited),
    due_at bigint, -- NULL: none
    at bigint NOT NULL,
    actor text COLLATE "C" NOT NULL,
    reason text COLLATE "C" NOT NULL,
    reference text COLLATE "C" NOT NULL,
    PRIMARY KEY (invoice_id, turn)
);

CREATE TABLE invoice_newest (
    invoice_id text COLLATE "C" PRIMARY KEY,
    turn bigint NOT NULL,
    customer_id text COLLATE "C" NOT NULL,
    status text COLLATE "C" NOT NULL,
    due_at bigint NOT NULL -- the last instant there is: none
);

CREATE TABLE payments (
    id text COLLATE "C" PRIMARY KEY,
    kind text COLLATE "C" NOT NULL CHECK (kind IN ('payment', 'refund')),
    customer_id text COLLATE "C" NOT NULL REFERENCES customers (id),
    invoice_id text COLLATE "C" REFERENCES invoices (id), -- NULL: for the balance
    currency text COLLATE "C" NOT NULL,
    amount bigint NOT NULL CHECK (amount > 0),
    applied bigint NOT NULL CHECK (applied BETWEEN 0 AND amount),
    method text COLLATE "C" NOT NULL,
    reference text COLLATE "C" NOT NULL,
    note text COLLATE "C" NOT NULL,
    received_at bigint NOT NULL,
    created_at bigint NOT NULL,
    actor text COLLATE "C" NOT NULL
);

CREATE TABLE credit_notes (
    number bigint PRIMARY KEY,
    id text COLLATE "C" NOT NULL UNIQUE,
    invoice_id text COLLATE "C" NOT NULL REFERENCES invoices (id),
    customer_id text COLLATE "C" NOT NULL REFERENCES customers (id),
    currency text COLLATE "C" NOT NULL,
    net bigint NOT NULL,
    tax bigint NOT NULL,
    off bigint NOT NULL CHECK (off >= 0),
    reason text COLLATE "C" NOT NULL,
    created_at bigint NOT NULL,
    actor text COLLATE "C" NOT NULL,
    CHECK (net + tax > 0 AND off <= net + tax)
);

CREATE TABLE credit_note_lines (
    note_id text COLLATE "C" NOT NULL REFERENCES credit_notes (id) DEFERRABLE INITIALLY DEFERRED,
    number bigint NOT NULL CHECK (number > 0),
    line_id text COLLATE "C" NOT NULL,
    net bigint NOT NULL,
    tax bigint NOT NULL,
    PRIMARY KEY (note_id, number)
);

CREATE TABLE dunning_steps (
    invoice_id text COLLATE "C" NOT NULL REFERENCES invoices (id),
    step text COLLATE "C" NOT NULL,
    at bigint NOT NULL,
    PRIMARY KEY (invoice_id, step)
);

CREATE TABLE grant_voids (
    grant_id text COLLATE "C" PRIMARY KEY REFERENCES grants (id),
    at bigint NOT NULL,
    actor text COLLATE "C" NOT NULL,
    reason text COLLATE "C" NOT NULL
);

CREATE TABLE coupon_redemptions (
    id text COLLATE "C" PRIMARY KEY,
    customer_id text COLLATE "C" NOT NULL REFERENCES customers (id),
    coupon text COLLATE "C" NOT NULL,
    catalog_version bigint NOT NULL,
    redeemed_at bigint NOT NULL,
    ended_at bigint, -- NULL: in force
    actor text COLLATE "C" NOT NULL,
    reason text COLLATE "C" NOT NULL
);

CREATE TABLE top_up_rules (
    customer_id text COLLATE "C" NOT NULL REFERENCES customers (id),
    meter text COLLATE "C" NOT NULL, -- '': money
    below text COLLATE "C" NOT NULL,
    amount text COLLATE "C" NOT NULL,
    paid text COLLATE "C" NOT NULL,
    most bigint NOT NULL CHECK (most > 0),
    every text COLLATE "C" NOT NULL,
    valid_days bigint NOT NULL CHECK (valid_days >= 0), -- 0: what it grants does not expire
    set_at bigint NOT NULL,
    actor text COLLATE "C" NOT NULL,
    PRIMARY KEY (customer_id, meter)
);

CREATE TABLE credit_marks (
    customer_id text COLLATE "C" NOT NULL REFERENCES customers (id),
    meter text COLLATE "C" NOT NULL, -- '': money
    percent bigint NOT NULL, -- the lowest threshold that was told since there was more
    crossings bigint NOT NULL, -- how often a threshold was crossed downwards
    PRIMARY KEY (customer_id, meter)
);

CREATE TABLE billing_runs (
    id text COLLATE "C" PRIMARY KEY,
    until_at bigint, -- NULL: all that is due
    customer_id text COLLATE "C" NOT NULL, -- '': of all customers
    actor text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed', 'canceled')),
    due bigint NOT NULL CHECK (due >= 0),
    done bigint NOT NULL CHECK (done >= 0),
    failed bigint NOT NULL CHECK (failed >= 0),
    invoices bigint NOT NULL CHECK (invoices >= 0),
    last_error text COLLATE "C" NOT NULL,
    created_at bigint NOT NULL,
    started_at bigint, -- NULL: not yet
    updated_at bigint NOT NULL
);

CREATE TABLE billing_run_failures (
    run_id text COLLATE "C" NOT NULL REFERENCES billing_runs (id),
    subscription_id text COLLATE "C" NOT NULL,
    customer text COLLATE "C" NOT NULL,
    period_start bigint NOT NULL,
    period_end bigint NOT NULL,
    reason text COLLATE "C" NOT NULL,
    PRIMARY KEY (run_id, subscription_id)
);

CREATE INDEX subscriptions_customer ON subscriptions (customer_id, id);
CREATE INDEX api_keys_customer ON api_keys (customer_id, id);
CREATE INDEX invoices_customer ON invoices (customer_id, number);
CREATE INDEX audits_target ON audits (target, id);
CREATE INDEX replays_created ON replays (created_at);
CREATE INDEX backfills_working ON backfills (state) WHERE state NOT IN ('closed', 'reverted');
CREATE UNIQUE INDEX sealed_closes_invoice ON sealed_closes (invoice_id) WHERE invoice_id <> '';
CREATE INDEX producer_tokens_producer ON producer_tokens (producer_id, id);
CREATE INDEX gateway_keys_node ON gateway_keys (node, from_epoch);
CREATE UNIQUE INDEX recounts_running ON recounts (meter) WHERE state = 'running';
CREATE INDEX leases_open ON leases (node, epoch) WHERE NOT closed;
CREATE INDEX leases_closed ON leases (window_end) WHERE closed;
CREATE INDEX overrides_customer ON overrides (customer_id, id);
CREATE INDEX grants_customer ON grants (customer_id, id);
CREATE UNIQUE INDEX grants_expired ON grants (grant_id) WHERE grant_id <> '';
CREATE INDEX notices_customer ON notices (customer_id, id);
CREATE INDEX notices_at ON notices (at);
CREATE INDEX deliveries_due ON deliveries (next_at) WHERE state = 'due';
CREATE INDEX gateway_tokens_node ON gateway_tokens (node, id);
CREATE INDEX refunds_customer ON refunds (customer_id, id);
CREATE INDEX refunds_day ON refunds (day);
CREATE INDEX subscription_changes_subscription ON subscription_changes (subscription_id, id);
CREATE UNIQUE INDEX invoices_series ON invoices (series, coalesce(series_number, number));
CREATE INDEX invoices_subscription ON invoices (subscription_id, period_end);
CREATE INDEX ledger_entries_customer ON ledger_entries (customer_id, n);
CREATE INDEX ledger_entries_reference ON ledger_entries (reference, n);
CREATE INDEX ledger_postings_account ON ledger_postings (customer_id, account, currency, minor);
CREATE INDEX invoice_newest_open ON invoice_newest (due_at, invoice_id) WHERE status = 'finalized';
CREATE INDEX invoice_newest_customer ON invoice_newest (customer_id, due_at, invoice_id) WHERE status = 'finalized';
CREATE INDEX payments_customer ON payments (customer_id, id);
CREATE INDEX payments_invoice ON payments (invoice_id, id);
CREATE UNIQUE INDEX payments_reference ON payments (customer_id, reference) WHERE reference <> '';
CREATE INDEX credit_notes_customer ON credit_notes (customer_id, number);
CREATE INDEX credit_notes_invoice ON credit_notes (invoice_id, number);
CREATE INDEX dunning_steps_step ON dunning_steps (step, invoice_id);
CREATE UNIQUE INDEX grants_once ON grants (customer_id, once) WHERE once <> '';
CREATE INDEX coupon_redemptions_customer ON coupon_redemptions (customer_id, id);
CREATE INDEX coupon_redemptions_coupon ON coupon_redemptions (coupon, customer_id);
CREATE INDEX billing_runs_open ON billing_runs (id) WHERE state IN ('queued', 'running');

-- Who leads. fence is the key, so that a writer's FOR KEY SHARE keeps out whoever takes over, and nobody else.
CREATE TABLE leadership (
    fence bigint PRIMARY KEY CHECK (fence >= 0), -- 0: nobody ever led
    one boolean NOT NULL UNIQUE CHECK (one),
    holder text COLLATE "C" NOT NULL,
    address text COLLATE "C" NOT NULL,
    until_at bigint NOT NULL -- by the database's clock
);
INSERT INTO leadership (fence, one, holder, address, until_at) VALUES (0, true, '', '', 0);

-- The oldest program, by the newest migration that it knows, that may use this schema.
CREATE TABLE records_schema (
    one boolean PRIMARY KEY CHECK (one),
    min_reader bigint NOT NULL
);
INSERT INTO records_schema (one, min_reader) VALUES (true, 15);

-- +goose StatementBegin
CREATE FUNCTION tally_micros() RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
$$;
-- +goose StatementEnd
-- What every write transaction of a leader begins with: it holds off the next leader until it ends.
-- +goose StatementBegin
CREATE FUNCTION tally_fence(mine bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM leadership WHERE fence = mine FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'another server has taken the lead from fence %', mine USING ERRCODE = 'TL001';
    END IF;
END $$;
-- +goose StatementEnd

-- What must never change does not change, whoever writes. TL001 is our own SQLSTATE for "conflict".
-- +goose StatementBegin
CREATE FUNCTION tally_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'TL001';
END $$;
-- +goose StatementEnd
-- +goose StatementBegin
DO $$
DECLARE t record;
BEGIN
    FOR t IN SELECT * FROM (VALUES
        ('catalogs', 'a catalog version is immutable'),
        ('invoices', 'a finalized invoice is immutable'),
        ('invoice_lines', 'a finalized invoice is immutable'),
        ('audits', 'an audit entry is immutable'),
        ('gateway_keys', 'a gateway key is immutable'),
        ('subscription_changes', 'a change of a subscription is immutable'),
        ('ledger_entries', 'a ledger entry is immutable'),
        ('ledger_postings', 'a ledger entry is immutable'),
        ('invoice_standings', 'an invoice standing is immutable'),
        ('payments', 'a payment is immutable'),
        ('credit_notes', 'a credit note is immutable'),
        ('credit_note_lines', 'a credit note is immutable')) AS kept (name, message)
    LOOP
        EXECUTE format('CREATE TRIGGER %I BEFORE UPDATE OR DELETE ON %I FOR EACH ROW EXECUTE FUNCTION tally_refuse(%L)',
            t.name || '_immutable', t.name, t.message);
        EXECUTE format('CREATE TRIGGER %I BEFORE TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION tally_refuse(%L)',
            t.name || '_kept', t.name, t.message);
    END LOOP;
END $$;
-- +goose StatementEnd
CREATE TRIGGER closes_done BEFORE UPDATE ON closes FOR EACH ROW WHEN (OLD.done)
    EXECUTE FUNCTION tally_refuse('a finished close is immutable');
CREATE TRIGGER backfills_reverted BEFORE UPDATE ON backfills FOR EACH ROW WHEN (OLD.state = 'reverted')
    EXECUTE FUNCTION tally_refuse('a reverted backfill is over');
CREATE TRIGGER backfills_no_delete BEFORE DELETE ON backfills FOR EACH ROW
    EXECUTE FUNCTION tally_refuse('a backfill is kept for ever');
CREATE TRIGGER recounts_ended BEFORE UPDATE ON recounts FOR EACH ROW WHEN (OLD.state <> 'running')
    EXECUTE FUNCTION tally_refuse('a recount that has ended is immutable');
CREATE TRIGGER billing_runs_ended BEFORE UPDATE ON billing_runs FOR EACH ROW WHEN (OLD.state NOT IN ('queued', 'running'))
    EXECUTE FUNCTION tally_refuse('a run of billing that has ended is immutable');

-- Checks on what is inserted. The writers of these tables hold an advisory lock, so that what is looked at stays so.
-- +goose StatementBegin
CREATE FUNCTION tally_check_insert() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE problem text;
BEGIN
    CASE TG_TABLE_NAME
    WHEN 'catalogs' THEN
        IF NEW.version <> (SELECT coalesce(max(version), 0) + 1 FROM catalogs) THEN
            problem := 'catalog versions follow each other without a gap';
        END IF;
    WHEN 'invoices' THEN
        IF EXISTS (SELECT 1 FROM invoices WHERE id = NEW.id) THEN
            problem := 'a finalized invoice is immutable';
        ELSIF NEW.number <> (SELECT coalesce(max(number), 0) + 1 FROM invoices) THEN
            problem := 'invoice numbers follow each other without a gap';
        ELSIF coalesce(NEW.series_number, NEW.number)
            <> (SELECT coalesce(max(coalesce(series_number, number)), 0) + 1 FROM invoices WHERE series = NEW.series) THEN
            problem := 'the invoice numbers of a series follow each other without a gap';
        END IF;
    WHEN 'invoice_lines' THEN
        IF EXISTS (SELECT 1 FROM invoices WHERE id = NEW.invoice_id) OR EXISTS (SELECT 1 FROM invoice_lines WHERE id = NEW.id) THEN
            problem := 'a finalized invoice is immutable';
        END IF;
    WHEN 'subscription_changes' THEN
        IF EXISTS (SELECT 1 FROM subscription_changes WHERE id = NEW.id) THEN
            problem := 'a change of a subscription is immutable';
        END IF;
    WHEN 'ledger_postings' THEN
        IF EXISTS (SELECT 1 FROM ledger_entries WHERE id = NEW.entry_id) THEN
            problem := 'a ledger entry is immutable';
        END IF;
    WHEN 'ledger_entries' THEN
        IF EXISTS (SELECT 1 FROM ledger_entries WHERE id = NEW.id OR key = NEW.key OR n = NEW.n) THEN
            problem := 'a ledger entry is immutable';
        ELSIF (SELECT count(*) < 2 OR sum(minor) <> 0 OR count(DISTINCT currency) <> 1 FROM ledger_postings WHERE entry_id = NEW.id) THEN
            problem := 'a ledger entry balances in one currency';
        ELSIF EXISTS (SELECT 1 FROM ledger_postings p, customers c
            WHERE p.entry_id = NEW.id AND c.id = NEW.customer_id AND p.currency <> c.currency) THEN
            problem := 'a ledger entry is in its customer''s currency';
        ELSIF EXISTS (SELECT 1 FROM ledger_postings WHERE entry_id = NEW.id AND account = 'balance' AND minor > 0)
            AND (SELECT coalesce(sum(minor), 0) FROM ledger_postings WHERE customer_id = NEW.customer_id AND account = 'balance') > 0 THEN
            problem := 'the balance does not cover it';
        END IF;
    WHEN 'invoice_standings' THEN
        IF NEW.turn <> 1 + coalesce((SELECT turn FROM invoice_newest WHERE invoice_id = NEW.invoice_id), 0) THEN
            problem := 'an invoice standing follows the newest one; those before are immutable';
        END IF;
    WHEN 'payments' THEN
        IF EXISTS (SELECT 1 FROM payments WHERE id = NEW.id) THEN
            problem := 'a payment is immutable';
        END IF;
    WHEN 'credit_notes' THEN
        IF NEW.number <> (SELECT coalesce(max(number), 0) + 1 FROM credit_notes) OR EXISTS (SELECT 1 FROM credit_notes WHERE id = NEW.id) THEN
            problem := 'credit notes are immutable, their numbers follow each other without a gap';
        END IF;
    WHEN 'credit_note_lines' THEN
        IF EXISTS (SELECT 1 FROM credit_notes WHERE id = NEW.note_id) THEN
            problem := 'a credit note is immutable';
        END IF;
    END CASE;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION '%', problem USING ERRCODE = 'TL001';
    END IF;
    RETURN NEW;
END $$;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE FUNCTION tally_newest_standing() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO invoice_newest (invoice_id, turn, customer_id, status, due_at)
    VALUES (NEW.invoice_id, NEW.turn, NEW.customer_id, NEW.status, coalesce(NEW.due_at, 9223372036854775807))
    ON CONFLICT (invoice_id) DO UPDATE SET turn = excluded.turn, status = excluded.status, due_at = excluded.due_at;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER invoice_standings_newest AFTER INSERT ON invoice_standings FOR EACH ROW EXECUTE FUNCTION tally_newest_standing();

-- What other processes hear of, in the transaction that changes it. The same message twice in a transaction is told once.
-- +goose StatementBegin
CREATE FUNCTION tally_tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('tally', TG_ARGV[0] || ' ');
    RETURN NULL;
END $$;
-- +goose StatementEnd
-- +goose StatementBegin
DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['catalogs', 'invoices', 'invoice_lines', 'subscription_changes', 'ledger_postings', 'ledger_entries',
        'invoice_standings', 'payments', 'credit_notes', 'credit_note_lines']
    LOOP
        EXECUTE format('CREATE TRIGGER %I BEFORE INSERT ON %I FOR EACH ROW EXECUTE FUNCTION tally_check_insert()', t || '_check', t);
    END LOOP;
    FOREACH t IN ARRAY ARRAY['customers', 'subscriptions', 'subscription_changes', 'api_keys', 'producers', 'producer_tokens', 'overrides',
        'grants', 'grant_voids', 'coupon_redemptions', 'aliases', 'gateway_nodes', 'gateway_tokens', 'gateway_keys', 'dunning_steps']
    LOOP
        EXECUTE format('CREATE TRIGGER %I AFTER INSERT OR UPDATE OR DELETE ON %I FOR EACH STATEMENT EXECUTE FUNCTION tally_tell(%L)',
            t || '_tell', t, 'directory');
    END LOOP;
END $$;
-- +goose StatementEnd
-- A paid or voided invoice may end a suspension; one that was only finalized does not.
CREATE TRIGGER invoice_standings_tell AFTER INSERT ON invoice_standings FOR EACH ROW WHEN (NEW.turn > 1)
    EXECUTE FUNCTION tally_tell('directory');
CREATE TRIGGER catalogs_tell AFTER INSERT ON catalogs FOR EACH STATEMENT EXECUTE FUNCTION tally_tell('catalog');

-- +goose Down
DROP TABLE records_schema CASCADE;
DROP TABLE leadership CASCADE;
DROP TABLE billing_run_failures CASCADE;
DROP TABLE billing_runs CASCADE;
DROP TABLE credit_marks CASCADE;
DROP TABLE top_up_rules CASCADE;
DROP TABLE coupon_redemptions CASCADE;
DROP TABLE grant_voids CASCADE;
DROP TABLE dunning_steps CASCADE;
DROP TABLE credit_note_lines CASCADE;
DROP TABLE credit_notes CASCADE;
DROP TABLE payments CASCADE;
DROP TABLE invoice_newest CASCADE;
DROP TABLE invoice_standings CASCADE;
DROP TABLE ledger_postings CASCADE;
DROP TABLE ledger_entries CASCADE;
DROP TABLE subscription_changes CASCADE;
DROP TABLE refunds CASCADE;
DROP TABLE gateway_tokens CASCADE;
DROP TABLE gateway_nodes CASCADE;
DROP TABLE deliveries CASCADE;
DROP TABLE webhooks CASCADE;
DROP TABLE notices CASCADE;
DROP TABLE grants CASCADE;
DROP TABLE overrides CASCADE;
DROP TABLE leases CASCADE;
DROP TABLE recounts CASCADE;
DROP TABLE gateway_findings CASCADE;
DROP TABLE gateway_progress CASCADE;
DROP TABLE gateway_keys CASCADE;
DROP TABLE producer_tokens CASCADE;
DROP TABLE producers CASCADE;
DROP TABLE subject_keys CASCADE;
DROP TABLE sealed_closes CASCADE;
DROP TABLE checkpoints CASCADE;
DROP TABLE sealer CASCADE;
DROP TABLE aliases CASCADE;
DROP TABLE backfills CASCADE;
DROP TABLE settings CASCADE;
DROP TABLE replays CASCADE;
DROP TABLE audits CASCADE;
DROP TABLE epochs CASCADE;
DROP TABLE invoice_lines CASCADE;
DROP TABLE invoices CASCADE;
DROP TABLE closes CASCADE;
DROP TABLE api_keys CASCADE;
DROP TABLE subscriptions CASCADE;
DROP TABLE customers CASCADE;
DROP TABLE catalogs CASCADE;
DROP FUNCTION tally_tell;
DROP FUNCTION tally_newest_standing;
DROP FUNCTION tally_check_insert;
DROP FUNCTION tally_refuse;
DROP FUNCTION tally_fence;
DROP FUNCTION tally_micros;
