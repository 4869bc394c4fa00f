package validation

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

const (
	// MaxDepth is how deep values may be nested in others.
	MaxDepth = 64
	// maxLooks is the most that a schema may look at one value, by all that it refers to: it multiplies what a request
	// costs.
	maxLooks = 64
	// maxSchemas is how many schemas one may consist of.
	maxSchemas = 20_000
	maxPattern = 1_000 // characters of a regular expression
)

// nothing loads no schema: a document has to have all that it refers to.
type nothing struct{}

func (nothing) Load(url string) (any, error) {
	return nil, fmt.Errorf("%q is not in this document, and is not fetched", url)
}

// compiler compiles the schemas of one document.
type compiler struct {
	*jsonschema.Compiler
	base string
}

func newCompiler(base string, doc any) (*compiler, error) {
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	c.UseLoader(nothing{})
	c.UseRegexpEngine(compileRegexp)
	if err := c.AddResource(base, doc); err != nil {
		return nil, err
	}
	return &compiler{c, base}, nil
}

// compileRegexp compiles an RE2 expression, which takes time in proportion to the text (RFC 9485 warns of others).
func compileRegexp(text string) (jsonschema.Regexp, error) {
	if len(text) > maxPattern {
		return nil, fmt.Errorf("a regular expression has more than %d characters", maxPattern)
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, err
	}
	return re, nil
}

// schema compiles the schema at a JSON pointer of the document and checks that it is bounded.
func (c *compiler) schema(pointer string) (*jsonschema.Schema, error) {
	s, err := c.Compile(c.base + "#" + pointer)
	if err != nil {
		return nil, explained(err)
	}
	return s, bounded(s)
}

// explained takes the library's words for what is wrong.
func explained(err error) error {
	var load *jsonschema.LoadURLError
	var invalid *jsonschema.SchemaValidationError
	switch {
	case errors.As(err, &load):
		return load.Err
	case errors.As(err, &invalid):
		var wrong *jsonschema.ValidationError
		if errors.As(invalid.Err, &wrong) {
			if list := leaves(nil, wrong, "", "", message.NewPrinter(language.English)); len(list) > 0 {
				return fmt.Errorf("is no schema: at %q: %s", list[0].Pointer, list[0].Detail)
			}
		}
	}
	text, _, _ := strings.Cut(err.Error(), "\n")
	return errors.New(cut(text, 300))
}

// graph is what schemas refer to.
type graph struct {
	seen  map[*jsonschema.Schema]int // in the order in which they were found
	order []*jsonschema.Schema
	refs  []refs
}

// refs are the schemas that one applies: here to the value itself, the others to values within it. Of members, and of
// elements, a value has one; all others apply to each.
type refs struct {
	here, members, object, elements, array []int
}

// bounded reports a schema that goes on and on at one value, or that looks at one too often: each of two references
// that meet at every level doubles what the next level costs. It makes uniqueItems a check whose time is bounded.
func bounded(root *jsonschema.Schema) error {
	g := &graph{seen: map[*jsonschema.Schema]int{}}
	g.add(root)
	for i := 0; i < len(g.order); i++ {
		if len(g.order) > maxSchemas {
			return fmt.Errorf("consists of more than %d schemas", maxSchemas)
		}
		s := g.order[i]
		if s.UniqueItems {
			s.UniqueItems = false
			s.Extensions = append(s.Extensions, unique{})
		}
		g.refs = append(g.refs, g.of(s))
	}
	sorted, err := g.sorted()
	if err != nil {
		return err
	}
	slices.Reverse(sorted)
	above := make([]int, len(g.order)) // how often each looks at a value so many levels below its own, at the most
	for depth := range MaxDepth {
		looks := make([]int, len(g.order))
		for _, i := range sorted {
			r := &g.refs[i]
			n := max(most(above, r.members)+sum(above, r.object), most(above, r.elements)+sum(above, r.array)) + sum(looks,
				r.here)
			if depth == 0 {
				n = 1 + sum(looks, r.here)
			}
			if looks[i] = n; n > maxLooks {
				return fmt.Errorf("looks at one value more than %d times, by references that meet again: %s", maxLooks,
					g.order[i].Location)
			}
		}
		above = looks
	}
	return nil
}

func sum(of, list []int) (n int) {
	for _, i := range list {
		n += of[i]
	}
	return n
}

func most(of, list []int) (n int) {
	for _, i := range list {
		n = max(n, of[i])
	}
	return n
}

func (g *graph) add(s *jsonschema.Schema) int {
	i, seen := g.seen[s]
	if !seen {
		i = len(g.order)
		g.seen[s] = i
		g.order = append(g.order, s)
	}
	return i
}

// of returns what a schema refers to.
func (g *graph) of(s *jsonschema.Schema) refs {
	var r refs
	in := func(list *[]int, schemas ...*jsonschema.Schema) {
		for _, o := range schemas {
			if o != nil {
				*list = append(*list, g.add(o))
			}
		}
	}
	any := func(list *[]int, v any) {
		switch v := v.(type) {
		case *jsonschema.Schema:
			in(list, v)
		case []*jsonschema.Schema:
			in(list, v...)
		}
	}
	in(&r.here, s.Ref, s.RecursiveRef, s.Not, s.If, s.Then, s.Else)
	if s.DynamicRef != nil {
		in(&r.here, s.DynamicRef.Ref)
	}
	in(&r.here, s.AllOf...)
	in(&r.here, s.AnyOf...)
	in(&r.here, s.OneOf...)
	in(&r.here, slices.Collect(maps.Values(s.DependentSchemas))...)
	for _, v := range s.Dependencies {
		any(&r.here, v)
	}
	in(&r.members, slices.Collect(maps.Values(s.Properties))...)
	in(&r.object, slices.Collect(maps.Values(s.PatternProperties))...)
	in(&r.object, s.PropertyNames, s.UnevaluatedProperties)
	any(&r.object, s.AdditionalProperties)
	in(&r.elements, s.PrefixItems...)
	in(&r.elements, s.Items2020)
	any(&r.elements, s.Items)
	any(&r.elements, s.AdditionalItems)
	in(&r.array, s.Contains, s.UnevaluatedItems)
	return r
}

// sorted returns the schemas in an order in which each goes before those that it applies to the same value. There is
// none where one applies itself.
func (g *graph) sorted() ([]int, error) {
	before := make([]int, len(g.order))
	for i := range g.refs {
		for _, j := range g.refs[i].here {
			before[j]++
		}
	}
	var order []int
	for i, n := range before {
		if n == 0 {
			order = append(order, i)
		}
	}
	for k := 0; k < len(order); k++ {
		for _, j := range g.refs[order[k]].here {
			if before[j]--; before[j] == 0 {
				order = append(order, j)
			}
		}
	}
	if len(order) < len(before) {
		for i, n := range before {
			if n > 0 {
				return nil, fmt.Errorf("applies itself to the value that it looks at, without an end: %s", g.order[i].Location)
			}
		}
	}
	return order, nil
}

// unique is uniqueItems in time that is in proportion to the items, whatever these are.
type unique struct{}

// Validate implements jsonschema.SchemaExt.
func (unique) Validate(ctx *jsonschema.ValidatorContext, v any) {
	items, ok := v.([]any)
	if !ok {
		return
	}
	seen := make(map[string]int, len(items))
	for i, item := range items {
		key := string(canonical(nil, item))
		if j, twice := seen[key]; twice {
			ctx.AddError(&kind.UniqueItems{Duplicates: [2]int{j, i}})
			return
		}
		seen[key] = i
	}
}

// canonical appends a text that equal values have, and others don't.
func canonical(b []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, 'n')
	case bool:
		return strconv.AppendBool(b, v)
	case string:
		return strconv.AppendQuote(b, v)
	case json.Number:
		if r, ok := new(big.Rat).SetString(string(v)); ok {
			return append(append(b, '#'), r.RatString()...)
		}
		return append(append(b, '#'), v...)
	case []any:
		b = append(b, '[')
		for _, item := range v {
			b = append(canonical(b, item), ',')
		}
		return append(b, ']')
	case map[string]any:
		b = append(b, '{')
		for _, name := range slices.Sorted(maps.Keys(v)) {
			b = append(strconv.AppendQuote(b, name), ':')
			b = append(canonical(b, v[name]), ',')
		}
		return append(b, '}')
	}
	return fmt.Append(b, v)
}

// Schema checks bodies against one schema. It is immutable and safe for concurrent use.
type Schema struct{ root *jsonschema.Schema }

// CompileSchema compiles a schema, which is a value as encoding/json has it with numbers as json.Number.
func CompileSchema(doc any) (*Schema, error) {
	switch doc.(type) {
	case bool, map[string]any:
	default:
		return nil, errors.New("is neither an object nor a truth value")
	}
	c, err := newCompiler("https://schema.invalid/", doc)
	if err != nil {
		return nil, err
	}
	root, err := c.schema("")
	if err != nil {
		return nil, err
	}
	return &Schema{root}, nil
}

// Check returns what is wrong with a body's value, at most MaxViolations.
func (s *Schema) Check(value any) []Violation { return check(nil, s.root, value, "body", "") }
