package httpapi

import "net/http"

// code is a stable problem code; /errors/{code} is its page.
type code string

// The codes that the API answers with. Those of the gateway are in the table only.
const (
	codeInvalid         code = "invalid"
	codeMalformed       code = "malformed"
	codeMediaType       code = "media_type_unsupported"
	codeBodyTooLarge    code = "body_too_large"
	codeBodyTimeout     code = "body_timeout"
	codeTokenMissing    code = "token_missing"
	codeTokenUnknown    code = "token_unknown"
	codeTokenRevoked    code = "token_revoked"
	codeTokenExpired    code = "token_expired"
	codeTokenScope      code = "token_scope"
	codeNoSubscription  code = "no_subscription"
	codeNotFound        code = "not_found"
	codeMethod          code = "method_not_allowed"
	codeExists          code = "already_exists"
	codeState           code = "wrong_state"
	codeConflict        code = "conflict"
	codeCatalogInvalid  code = "catalog_invalid"
	codeCursorInvalid   code = "cursor_invalid"
	codeDecisionUnknown code = "decision_unknown"
	codeClockNotTest    code = "clock_not_test"
	codeClockBackward   code = "clock_backward"
	codeReplayMismatch  code = "idempotency_mismatch"
	codeReplayRunning   code = "idempotency_in_progress"
	codeStoreFull       code = "store_full"
	codeOutcomeUnknown  code = "outcome_unknown"
	codeUnavailable     code = "unavailable"
	codeInternal        code = "internal"
	codeKeyMissing      code = "key_missing"
	codeKeyUnknown      code = "key_unknown"
	codeKeyRevoked      code = "key_revoked"
	codeKeyExpired      code = "key_expired"
	codeRateExceeded    code = "rate_exceeded"
	codeQuotaExceeded   code = "quota_exceeded"
	codeSpendCap        code = "spend_cap_reached"
	codeRouteUnknown    code = "route_unknown"
	codeUpstreamAway    code = "upstream_unreachable"
	codeUpstreamTimeout code = "upstream_timeout"
	codeSpoolFull       code = "spool_full"
	codeEventConflict   code = "event_conflict"
	codeEventRejected   code = "event_rejected"
	codeEventUnmatched  code = "event_unmatched"
	codeAtomicRefused   code = "atomic_refused"

	codeConcurrency          code = "concurrency_exceeded"
	codeCredits              code = "credits_exhausted"
	codeEntitlement          code = "entitlement_missing"
	codeAbnormal             code = "abnormal_usage"
	codeAuthorityUnreachable code = "authority_unreachable"
	codeNoLeader             code = "no_leader"
	codeLeaderLost           code = "leader_lost"
	codeReservationUnknown   code = "reservation_unknown"
	codeReservationEnded     code = "reservation_ended"
	codeReservationAway      code = "reservation_away"
	codeDoorMalformed        code = "door_malformed"
	codeDoorRefused          code = "door_refused"
	codeHeadersTooLarge      code = "headers_too_large"
	codeCostInvalid          code = "cost_invalid"
	codeUnpaid               code = "unpaid"

	codeCalcSyntax   code = "calc_syntax"
	codeCalcTooLarge code = "calc_too_large"
	codeCalcInvalid  code = "calc_invalid"
	codeCalcOverflow code = "calc_overflow"

	codeDocumentIncomplete code = "document_incomplete"

	whereAPI     = "API"
	whereGateway = "gateway"
	whereBoth    = "API and gateway"
)

// codeInfo is what a code's page says.
type codeInfo struct {
	Code      code   `json:"code"`
	Status    int    `json:"status"`
	Title     string `json:"title"`
	Meaning   string `json:"meaning"`
	Do        string `json:"what_to_do"`
	Retryable bool   `json:"retryable"`
	Where     string `json:"answered_by"`
}

// codeTable has every code that the gateway or the API answers with, in the order of their statuses.
func codeTable() []codeInfo {
	return []codeInfo{
		{codeEventRejected, http.StatusOK, "The event was rejected", "The event breaks a rule, its outcome says which. Nothing was stored of it.", "Mend what pointer and rule name, then send it again.", false, whereAPI},
		{codeEventUnmatched, http.StatusOK, "The event matches nothing", "The event is stored, but no meter reads its type or no customer is its subject. It counts for nothing yet.", "Check type and subject against the catalog and the customers.", false, whereAPI},
		{codeEventConflict, http.StatusOK, "The event's id is taken", "An event with this source and id is stored already, with another type, subject or data. The stored one stands.", "Give every event an id of its own; correct usage with a new event.", false, whereAPI},
		{codeMalformed, http.StatusBadRequest, "The request cannot be read", "The body is not a document of the announced type.", "Check the body's syntax and its Content-Type.", false, whereAPI},
		{codeCursorInvalid, http.StatusBadRequest, "The cursor is not valid", "The cursor was not made by this list.", "Take the cursor from next in the answer of the page before, or begin without one.", false, whereAPI},
		{codeDoorMalformed, http.StatusBadRequest, "The proxy did not say what was asked", "A proxy asked at /doors/ without telling the method and address of the request, or with an option that is not known.", "The operator takes the proxy's configuration from tally gateway add.", false, whereGateway},
		{codeTokenMissing, http.StatusUnauthorized, "The operator's token is missing", "The call carries no operator's token. Cookies do not count.", "Send it as \"Authorization: Bearer TOKEN\"; it is in client.json of the data folder.", false, whereAPI},
		{codeTokenUnknown, http.StatusUnauthorized, "The token is not known", "The token is neither the operator's nor a producer's of this deployment. A gateway key is not one either.", "Take the token from client.json of the data folder.", false, whereAPI},
		{codeTokenRevoked, http.StatusUnauthorized, "The token was revoked", "The producer, or this token of it, was revoked and works no more.", "Use the producer's other token, or have the operator draw a new one: tally producers rotate.", false, whereAPI},
		{codeTokenExpired, http.StatusUnauthorized, "The producer has expired", "The producer's time is over, and with it that of its tokens.", "Have the operator create another producer.", false, whereAPI},
		{codeKeyMissing, http.StatusUnauthorized, "The API key is missing", "The request carries no API key.", "Send it as \"Authorization: Bearer KEY\".", false, whereBoth},
		{codeKeyUnknown, http.StatusUnauthorized, "The API key is not known", "No such key exists in this deployment.", "Check the key for typing errors, or create a new one.", false, whereBoth},
		{codeKeyRevoked, http.StatusUnauthorized, "The API key was revoked", "The key was revoked and works no more.", "Use another key, or create a new one.", false, whereBoth},
		{codeKeyExpired, http.StatusUnauthorized, "The API key has expired", "The key's time is over.", "Create a new key.", false, whereBoth},
		{codeSpendCap, http.StatusPaymentRequired, "The spend cap is reached", "The charges of this billing period have reached the cap. Waiting within the period does not help.", "Raise the spend cap, or wait for the next billing period.", false, whereGateway},
		{codeCredits, http.StatusPaymentRequired, "The credits are used up", "All usage credits that the customer was granted of the meter are used. Waiting does not help.", "Buy or grant more credits.", false, whereBoth},
		{codeUnpaid, http.StatusPaymentRequired, "An invoice is not paid", "The customer is suspended: an invoice is long past due. Waiting does not help.", "Pay the invoice; access is back at once.", false, whereBoth},
		{codeNoSubscription, http.StatusForbidden, "There is no active subscription", "The key is good, but its customer has no active subscription.", "Start a subscription for this customer.", false, whereBoth},
		{codeEntitlement, http.StatusForbidden, "The plan does not include this", "The route needs a feature that the customer's plan does not have.", "Change to a plan that includes it.", false, whereGateway},
		{codeDoorRefused, http.StatusForbidden, "The door does not answer this proxy", "A proxy asked at /doors/ from an address that is not trusted, or without the door's token.", "The operator names the proxy's network with --door-peers, and lets it send Tally-Door-Token.", false, whereGateway},
		{codeTokenScope, http.StatusForbidden, "The token is not for this", "A producer's token reports usage by POST /v1/events and opens nothing else.", "Use the operator's token for this call.", false, whereAPI},
		{codeNotFound, http.StatusNotFound, "Not found", "Nothing here has this path, id or key.", "Check the id or key; lists show what there is.", false, whereAPI},
		{codeRouteUnknown, http.StatusNotFound, "No route matches", "No route of the gateway's catalog matches the request. It was not counted.", "Check the method and the path.", false, whereGateway},
		{codeReservationUnknown, http.StatusNotFound, "There is no such reservation", "No reservation of this id is open, and none ended within the last hour.", "Check the id; make a new reservation if the work is still to be done.", false, whereAPI},
		{codeMethod, http.StatusMethodNotAllowed, "The method is not allowed here", "The path exists, but not with this method.", "Use a method that the Allow header names.", false, whereAPI},
		{codeBodyTimeout, http.StatusRequestTimeout, "The body came too slowly", "The body did not arrive in time.", "Send it again over a better line, or send less at once.", true, whereAPI},
		{codeExists, http.StatusConflict, "It already exists", "Something with this key is there already.", "Choose another key, or use what is there.", false, whereAPI},
		{codeState, http.StatusConflict, "The state does not allow it", "What the call asks for is not possible as things stand.", "The detail says what stands in the way.", false, whereAPI},
		{codeReservationEnded, http.StatusConflict, "The reservation has ended", "The reservation was settled, released or expired before, in another way than the call asks for.", "Look at it to see how it ended; make a new reservation for more work.", false, whereAPI},
		{codeConflict, http.StatusConflict, "Another change came first", "Something else changed at the same time.", "Look at how things stand now, then try again.", true, whereAPI},
		{codeClockNotTest, http.StatusConflict, "The clock is a real one", "The business clock can be advanced in test mode only.", "Use a deployment in test mode, such as the demo.", false, whereAPI},
		{codeReplayRunning, http.StatusConflict, "The first call is still running", "A call with this Idempotency-Key has begun and not ended.", "Wait a moment, then repeat it with the same key.", true, whereAPI},
		{codeBodyTooLarge, http.StatusRequestEntityTooLarge, "The body is too large", "The request's body is larger than this route takes.", "Send less in one request.", false, whereBoth},
		{codeMediaType, http.StatusUnsupportedMediaType, "The content type is not supported", "The route does not read bodies of this Content-Type.", "Send a Content-Type that the documentation of the route names.", false, whereAPI},
		{codeInvalid, http.StatusUnprocessableEntity, "The request is not valid", "The request can be read, but a value in it breaks a rule.", "Mend each of the errors by its pointer.", false, whereAPI},
		{codeCostInvalid, http.StatusUnprocessableEntity, "The cost is no quantity of the meter", "The cost that the call names is below 0, too large, or has more decimals than the meter counts.", "Send a number that is not negative, with no more decimals than the meter has.", false, whereBoth},
		{codeAtomicRefused, http.StatusUnprocessableEntity, "Nothing of the call was stored", "The call is atomic, and at least one of its events is rejected or a conflict; the outcomes say which.", "Mend those events and send all again, or leave atomic out.", false, whereAPI},
		{codeCatalogInvalid, http.StatusUnprocessableEntity, "The catalog is not valid", "The catalog has faults; each is listed with line and column.", "Mend the faults, then plan again.", false, whereAPI},
		{codeDocumentIncomplete, http.StatusUnprocessableEntity, "The invoice lacks what this form demands", "EN 16931 demands names, countries and tax numbers that the invoice does not have.", "Take another form of it. Later invoices have what the catalog says of the seller, and the customer of the buyer.", false, whereAPI},
		{codeDecisionUnknown, http.StatusUnprocessableEntity, "The decision id is not known", "The text is not a decision id of this deployment, or its key is no longer kept.", "Copy the whole Decision-Id header of an answer.", false, whereAPI},
		{codeClockBackward, http.StatusUnprocessableEntity, "The clock cannot go back", "The instant lies before the present business time.", "Ask for a later instant.", false, whereAPI},
		{codeReplayMismatch, http.StatusUnprocessableEntity, "The Idempotency-Key was used before", "The key belongs to a call with another path, query or body.", "Use a new key for a new call.", false, whereAPI},
		{codeCalcSyntax, http.StatusUnprocessableEntity, "The calculation is no JSON object", "The request of a calculation cannot be read as one JSON object.", "Check its syntax: one object, on one line for tally calc.", false, whereAPI},
		{codeCalcTooLarge, http.StatusUnprocessableEntity, "The calculation is too large", "The request of a calculation is longer than 1 MiB.", "Send fewer events, grants or lines in one request.", false, whereAPI},
		{codeCalcInvalid, http.StatusUnprocessableEntity, "The calculation is not valid", "A field of the calculation is missing, unknown, of the wrong type or makes no sense.", "Mend what pointer and rule name.", false, whereAPI},
		{codeCalcOverflow, http.StatusUnprocessableEntity, "The result has too many digits", "The result of the calculation, or a step to it, has more digits than are kept.", "Calculate with smaller numbers.", false, whereAPI},
		{codeRateExceeded, http.StatusTooManyRequests, "Too many requests at once", "A rate limit of the plan is reached.", "Slow down; wait as Retry-After says.", true, whereGateway},
		{codeQuotaExceeded, http.StatusTooManyRequests, "The quota is used up", "A quota of the plan is used up for its window.", "Wait for the reset, or change to a plan with a higher quota.", true, whereGateway},
		{codeConcurrency, http.StatusTooManyRequests, "Too many requests are running", "As many requests run at once as the plan allows.", "Wait until one has ended, then try again.", true, whereBoth},
		{codeAbnormal, http.StatusTooManyRequests, "Usage is abnormal", "Usage in this hour is far above what is usual for this customer, and the plan throttles that.", "Slow down; it ends with the hour. Tell the API's owner if the use is meant.", true, whereGateway},
		{codeHeadersTooLarge, http.StatusRequestHeaderFieldsTooLarge, "The headers are too large", "The address or the headers of the request are longer than the gateway reads.", "Send less in the address, or in the headers.", false, whereGateway},
		{codeInternal, http.StatusInternalServerError, "Something went wrong here", "The fault is ours. The server's log has it under the request id.", "Try again; if it lasts, tell the operator the request id.", true, whereAPI},
		{codeUpstreamAway, http.StatusBadGateway, "The API cannot be reached", "The API behind the gateway could not be reached. The request was not counted.", "Try again later.", true, whereGateway},
		{codeStoreFull, http.StatusServiceUnavailable, "There is no room to store it", "The store has no room or no time at the moment. Sending the same again is harmless.", "Wait as Retry-After says, then send it again; the operator must make room if it lasts.", true, whereAPI},
		{codeOutcomeUnknown, http.StatusServiceUnavailable, "It is not known whether it was done", "The journal's Kafka or PostgreSQL did not answer in time: what the call asks for may be done, now or later. Usage events can be sent again: each counts once.", "Send usage events again as they are; before another call, look whether it was done. The operator must see to Kafka or PostgreSQL if it lasts.", true, whereAPI},
		{codeSpoolFull, http.StatusServiceUnavailable, "The gateway has no room left", "The gateway has no room left to account for more requests, so it admits none.", "Wait as Retry-After says; the operator must make room if it lasts.", true, whereGateway},
		{codeNoLeader, http.StatusServiceUnavailable, "No server leads", "Of several servers none leads now, and none took the lead within the time that the request waited. Nothing was done.", "Wait as Retry-After says; the operator must see to the servers and their database if it lasts.", true, whereAPI},
		{codeLeaderLost, http.StatusServiceUnavailable, "The leader went away", "The server that leads went away before it answered; it may have done what the call asks for.", "Repeat the call with the same Idempotency-Key, or look whether it was done.", true, whereAPI},
		{codeReservationAway, http.StatusServiceUnavailable, "The reservation's server is not there", "A reservation is with the server that made it, and ends there. That one was not back in time, or its answer was lost.", "Repeat the call: an end that was reached already is answered again. Look at the reservation before more cost is reserved with it.", true, whereAPI},
		{codeAuthorityUnreachable, http.StatusServiceUnavailable, "Quota cannot be asked for", "The gateway has used up what it had leased of a limit, and the server that grants more cannot be reached.", "Wait as Retry-After says; the operator must look at the server and the line to it if it lasts.", true, whereGateway},
		{codeUnavailable, http.StatusServiceUnavailable, "Not available at the moment", "The request cannot be accounted for or answered at the moment.", "Wait as Retry-After says, then try again; tell the operator if it lasts.", true, whereBoth},
		{codeUpstreamTimeout, http.StatusGatewayTimeout, "The API did not answer in time", "The API behind the gateway did not answer in time. The request was not counted.", "Try again later.", true, whereGateway},
	}
}

// info is the code's entry; internal's for a code without one.
func (c code) info() codeInfo {
	var internal codeInfo
	for _, i := range codeTable() {
		if i.Code == c {
			return i
		}
		if i.Code == codeInternal {
			internal = i
		}
	}
	return internal
}
