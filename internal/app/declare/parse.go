package declare

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// What the parser is given is bounded, because it recurses once for each level and for each key of a block mapping, keeps the
// path of keys with every value, and shifts all tokens for each value that is left empty. The form itself has 7 levels.
const (
	maxDepth   = 12
	maxKeys    = 64 // of one block mapping
	maxKeySize = 64 // bytes
	maxEmpty   = 100
)

// parse is the root of the document, nil when it is empty.
func parse(text string) (root ast.Node, fault *Fault) {
	// The parser assumes in places that a token follows, and fuzzing it alone finds documents where none does (a tag at the
	// end, after a %TAG directive). None is known that screen lets through, but to show that there is none is beyond us;
	// a crash here is one more way to say that a document is not valid YAML.
	defer func() {
		if p := recover(); p != nil {
			root, fault = nil, &Fault{Line: 1, Column: 1, Message: "the document is not valid YAML: its structure cannot be made out"}
		}
	}()
	tokens := lexer.Tokenize(text)
	if invalid := tokens.InvalidToken(); invalid != nil {
		return nil, syntaxFault(invalid.Error, invalid)
	}
	if f := guard(tokens); f != nil {
		return nil, f
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		if at, ok := errors.AsType[located](err); ok {
			return nil, syntaxFault(at.GetMessage(), at.GetToken())
		}
		return nil, syntaxFault(err.Error(), nil)
	}
	for _, doc := range file.Docs {
		if doc.Body != nil {
			return doc.Body, nil // guard let one document through
		}
	}
	return nil, nil
}

// located is an error of the parser.
type located interface {
	error
	GetToken() *token.Token
	GetMessage() string
}

func syntaxFault(message string, at *token.Token) *Fault {
	first, _, _ := strings.Cut(message, "\n")
	f := &Fault{Line: 1, Column: 1, Message: "the document is not valid YAML: " + first}
	if at != nil && at.Position != nil {
		f.Line, f.Column = at.Position.Line, at.Position.Column
	}
	return f
}

// guard checks the bounds above and that there is one document.
func guard(tokens token.Tokens) *Fault {
	g := guardian{}
	for _, t := range tokens {
		if t.Type != token.CommentType {
			g.tokens = append(g.tokens, t)
		}
	}
	for i := range g.tokens {
		if f := g.see(i); f != nil {
			return f
		}
	}
	return nil
}

func faultAt(t *token.Token, message, expected string) *Fault {
	return &Fault{Line: t.Position.Line, Column: t.Position.Column, Message: message, Expected: expected}
}

type guardian struct {
	tokens []*token.Token
	blocks []block
	flows  []flow
	empty  int
	begun  bool // something of a document was seen
	ended  bool
}

// block is an open block collection by its column.
type block struct{ column, keys int }

// flow is an open bracket: its current entry's tokens and colons.
type flow struct {
	mapping        bool
	tokens, colons int
}

func opens(t *token.Token) bool {
	return t.Type == token.MappingStartType || t.Type == token.SequenceStartType
}

func closes(t *token.Token) bool {
	return t.Type == token.MappingEndType || t.Type == token.SequenceEndType
}

func (g *guardian) see(i int) *Fault {
	t := g.tokens[i]
	if f := g.document(t); f != nil {
		return f
	}
	switch {
	case opens(t):
		g.entryToken()
		g.flows = append(g.flows, flow{mapping: t.Type == token.MappingStartType})
	case closes(t):
		g.entryEnd()
		g.flows = g.flows[:max(0, len(g.flows)-1)]
	case t.Type == token.CollectEntryType:
		g.entryEnd()
	case t.Type == token.SequenceEntryType:
		g.open(t.Position.Column, false)
		if next := g.after(i); next == nil || next.Position.Line > t.Position.Line && next.Position.Column <= t.Position.Column {
			g.empty++
		}
	case t.Type == token.MappingValueType:
		if f := g.colon(i); f != nil {
			return f
		}
	default:
		g.entryToken()
	}
	switch {
	case len(g.blocks)+len(g.flows) > maxDepth:
		return faultAt(t, "the document nests too deep", fmt.Sprintf("at most %d levels", maxDepth))
	case len(g.blocks) > 0 && g.blocks[len(g.blocks)-1].keys > maxKeys:
		return faultAt(t, "the mapping has too many keys", fmt.Sprintf("at most %d", maxKeys))
	case g.empty > maxEmpty:
		return faultAt(t, "too many values are left empty", fmt.Sprintf("at most %d in a document", maxEmpty))
	}
	return nil
}

// document follows the marks between documents.
func (g *guardian) document(t *token.Token) *Fault {
	if g.ended || t.Type == token.DocumentHeaderType && g.begun {
		return faultAt(t, "a second document begins here", "one document")
	}
	g.begun = true
	g.ended = t.Type == token.DocumentEndType
	return nil
}

// open enters the block collection at a column, leaving those further right.
func (g *guardian) open(column int, key bool) {
	if len(g.flows) > 0 {
		return
	}
	for len(g.blocks) > 0 && g.blocks[len(g.blocks)-1].column > column {
		g.blocks = g.blocks[:len(g.blocks)-1]
	}
	if len(g.blocks) == 0 || g.blocks[len(g.blocks)-1].column < column {
		g.blocks = append(g.blocks, block{column: column})
	}
	if key {
		g.blocks[len(g.blocks)-1].keys++
	}
}

func (g *guardian) colon(i int) *Fault {
	t, next := g.tokens[i], g.after(i)
	column := t.Position.Column
	if i > 0 {
		key := g.tokens[i-1]
		if len(key.Value) > maxKeySize {
			return faultAt(key, "the key is too long", fmt.Sprintf("at most %d bytes", maxKeySize))
		}
		if key.Position.Line == t.Position.Line {
			column = key.Position.Column
		}
	}
	if len(g.flows) == 0 {
		g.open(column, true)
		if next == nil || next.Position.Line > t.Position.Line &&
			(next.Position.Column < column || next.Position.Column == column && next.Type != token.SequenceEntryType) {
			g.empty++
		}
		return nil
	}
	top := &g.flows[len(g.flows)-1]
	top.colons++
	if top.colons > 1 { // not YAML, but the parser would take each for one more level
		return faultAt(t, "a second colon in one entry", "a comma or closing bracket before it, or quotes around the text")
	}
	if next == nil || next.Type == token.CollectEntryType || closes(next) {
		g.empty++
	}
	return nil
}

func (g *guardian) after(i int) *token.Token {
	if i+1 < len(g.tokens) {
		return g.tokens[i+1]
	}
	return nil
}

func (g *guardian) entryToken() {
	if len(g.flows) > 0 {
		g.flows[len(g.flows)-1].tokens++
	}
}

// entryEnd closes one entry of the innermost bracket; a key alone is an empty value.
func (g *guardian) entryEnd() {
	if len(g.flows) == 0 {
		return
	}
	top := &g.flows[len(g.flows)-1]
	if top.mapping && top.colons == 0 && top.tokens > 0 {
		g.empty++
	}
	top.tokens, top.colons = 0, 0
}
