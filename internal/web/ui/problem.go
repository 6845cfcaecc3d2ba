package ui

import (
	"errors"
	"net/http"

	"github.com/tallystick/tallystick/internal/app/document"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/receipt"
)

// Problem is how a page says what went wrong. Ours is true when the fault is, and the log must have it.
type Problem struct {
	Status      int
	Title, Text string
	Ours        bool
}

// ProblemOf maps an error to its page; it never shows the error's text.
func ProblemOf(err error) Problem {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.Is(err, account.ErrNotFound):
		return Problem{http.StatusNotFound, "Not found", "There is nothing at this address.", false}
	case errors.Is(err, receipt.ErrToken):
		return Problem{http.StatusNotFound, "No such decision", "This is not a decision id of this deployment. Copy the whole Decision-Id header, from dec_ to the end.", false}
	case errors.Is(err, account.ErrInvalid):
		return Problem{http.StatusBadRequest, "Not understood", "The address or the form has a value that does not fit.", false}
	case errors.Is(err, document.ErrIncomplete):
		return Problem{http.StatusUnprocessableEntity, "The invoice lacks what this form demands", "The standard demands names, countries and tax numbers of both parties that this invoice does not have. Take another form of it.", false}
	case errors.As(err, &tooLarge):
		return Problem{http.StatusRequestEntityTooLarge, "Too large", "The form holds more than it may.", false}
	}
	return Problem{http.StatusInternalServerError, "Something went wrong", "The page could not be made. The server's log says why.", true}
}
