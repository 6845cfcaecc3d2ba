package console

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/web/session"
)

const (
	cookieName = "tally_operator"
	subject    = "operator" // of a session; there is one operator's token for all
	formMax    = 4 << 10    // bytes of a form
)

func (c *console) isOperator(r *http.Request) bool {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return false
	}
	who, _, ok := c.cfg.Signer.Verify(session.Operator, cookie.Value)
	return ok && who == subject
}

// open serves a handler to everyone.
func (c *console) open(page func(http.ResponseWriter, *http.Request) (answer, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a, err := page(w, r)
		c.write(w, r, a, err)
	})
}

func (c *console) loginForm(_ http.ResponseWriter, r *http.Request) (answer, error) {
	if c.isOperator(r) {
		return answer{to: wanted(r.URL.Query().Get("next"))}, nil
	}
	return answer{page: loginPage(c.frame(r, "Sign in"), wanted(r.URL.Query().Get("next")), false)}, nil
}

// login takes the operator's token and gives a session. It does not say in what way a token is wrong.
func (c *console) login(w http.ResponseWriter, r *http.Request) (answer, error) {
	r.Body = http.MaxBytesReader(w, r.Body, formMax)
	if err := r.ParseForm(); err != nil {
		return answer{}, fmt.Errorf("sign-in form: %w: %w", account.ErrInvalid, err)
	}
	next := wanted(r.PostForm.Get("next"))
	if !c.cfg.Signer.IsOperator(strings.TrimSpace(r.PostForm.Get("token"))) {
		return answer{status: http.StatusForbidden, page: loginPage(c.frame(r, "Sign in"), next, true)}, nil
	}
	token, expires := c.cfg.Signer.Sign(session.Operator, subject, session.OperatorTTL)
	http.SetCookie(w, &http.Cookie{
		Name: cookieName, Value: token, Path: "/", Expires: expires, HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil,
	})
	return answer{to: next}, nil
}

func (c *console) logout(w http.ResponseWriter, r *http.Request) (answer, error) {
	http.SetCookie(w, &http.Cookie{
		Name: cookieName, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil,
	})
	return answer{to: "/login"}, nil
}

// wanted is a path of ours to go to after signing in; anything else is the home page.
func wanted(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(u.Path, "/") || strings.HasPrefix(u.Path, "//") || strings.ContainsAny(next, "\\\t\r\n") {
		return "/"
	}
	return u.RequestURI()
}

// loginPath is where to sign in, and come back from.
func loginPath(r *http.Request) string {
	if r.Method != http.MethodGet || r.URL.Path == "/" {
		return "/login"
	}
	return "/login?next=" + url.QueryEscape(r.URL.RequestURI())
}
