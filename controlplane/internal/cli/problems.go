package cli

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/config/file"
	"gateway.internal/shared/terminal"
)

// InvalidError is a configuration that has problems.
type InvalidError struct {
	Problems []*adminv1.Problem
	// Document is what was read; nil when the problems are not of a file.
	Document *file.Document
}

// Error writes every problem, in the order of the files, each with its place and the line where that is known.
func (e *InvalidError) Error() string {
	shown := make([]place, len(e.Problems))
	for i, p := range e.Problems {
		shown[i] = e.place(p)
	}
	slices.SortStableFunc(shown, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.path, b.path), cmp.Compare(a.line, b.line), cmp.Compare(a.column, b.column))
	})
	all := make([]string, len(shown))
	for i, p := range shown {
		all[i] = p.text
	}
	return strings.Join(all, "\n")
}

// place is a problem as it is shown, and where it stands; nowhere is before all files.
type place struct {
	path         string
	line, column int
	text         string
}

func (e *InvalidError) place(p *adminv1.Problem) place {
	text := p.GetMessage()
	if p.GetField() != "" {
		value := ""
		if p.GetValue() != "" {
			value = fmt.Sprintf(" %q", p.GetValue())
		}
		text = p.GetField() + value + " " + text
	}
	if p.GetKind() != "" {
		text = fmt.Sprintf("%s %q: %s", p.GetKind(), p.GetName(), text)
	}
	if e.Document != nil {
		if path, line, column, ok := e.Document.Position(p.GetLocation(), p.GetField()); ok {
			for _, unset := range e.Document.Unset() {
				if unset.Location == p.GetLocation() && unset.Field == p.GetField() {
					text += "; the environment has no variable " + unset.Variable
				}
			}
			source := e.Document.Source(path)
			text = fmt.Sprintf("%s:%d:%d: %s", path, line, column, e.Document.Hide(source.Hide(text)))
			return place{path, line, column, terminal.Line(text) + excerpt(source, line, column)}
		}
	}
	return place{text: terminal.Line(text)}
}

// excerptWidth is how many characters of a line are shown.
const excerptWidth = 100

// excerpt shows a line of a file with a mark under a column, which counts characters from 1; "" when there is nothing
// to show.
func excerpt(source *file.Source, line, column int) string {
	shown, ok := source.Line(line)
	if !ok {
		return fmt.Sprintf("\n%5d | %s", line, shown)
	}
	return marked(shown, line, column)
}

func marked(source string, line, column int) string {
	text := []rune(source)
	if column < 1 || column > len(text)+1 || strings.TrimSpace(source) == "" {
		return ""
	}
	before := text[:column-1]
	cutLeft, cutRight := "", ""
	if from := len(before) - excerptWidth/2; from > 0 && len(text) > excerptWidth {
		text, before, cutLeft = text[from:], before[from:], "..."
	}
	if len(text) > excerptWidth {
		text, cutRight = text[:excerptWidth], "..."
	}
	margin := fmt.Sprintf("%5d | ", line)
	shown, before := terminal.Lines(string(text)), []rune(terminal.Lines(string(before)))
	// Tabs stay, so that the mark is under its column however wide they are shown.
	pad := strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		return ' '
	}, cutLeft+string(before))
	return "\n" + margin + cutLeft + shown + cutRight + "\n" + strings.Repeat(" ", len(margin)-2) + "| " + pad + "^"
}

// Explain makes of an error of the API one that points into the files.
func Explain(err error, doc *file.Document) error {
	if d := detail(err); len(d.GetProblems()) > 0 && slices.Contains([]string{"VALIDATION_FAILED", "INVALID_ARGUMENT"}, d.GetCode()) {
		return &InvalidError{d.GetProblems(), doc}
	}
	return err
}

// ExplainOffline is Explain for what was checked here instead of by a control plane.
func ExplainOffline(err error, doc *file.Document) error {
	problems, ok := errors.AsType[config.Problems](err)
	if !ok {
		return err
	}
	return &InvalidError{ProblemsOf(problems), doc}
}

// ProblemsOf returns problems as the API would tell them.
func ProblemsOf(list config.Problems) []*adminv1.Problem {
	out := make([]*adminv1.Problem, len(list))
	for i, p := range list {
		out[i] = &adminv1.Problem{Name: p.Name, Field: p.Field, Value: p.Value, Message: p.Message, Location: p.Location}
		if p.Kind != 0 {
			out[i].Kind = p.Kind.String()
		}
	}
	return out
}

// Unset returns warnings of the variables that the environment lacks, each at the first text of a document that was
// left as it is for want of it. doc may be nil.
func Unset(doc *file.Document) (warnings []*adminv1.Problem) {
	if doc == nil {
		return nil
	}
	var said []string
	for _, unset := range doc.Unset() {
		if slices.Contains(said, unset.Variable) {
			continue
		}
		said = append(said, unset.Variable)
		warnings = append(warnings, &adminv1.Problem{Field: unset.Field, Location: unset.Location,
			Message: "is left as it is: what a control plane has stored for the same text stays"})
	}
	return warnings
}

// Message returns what is shown of an error. Problems of files start with their place, as a compiler's do, all else
// with the command.
func Message(err error) string {
	if files, ok := errors.AsType[file.Errors](err); ok {
		return form(files)
	}
	if invalid, ok := errors.AsType[*InvalidError](err); ok {
		return invalid.Error()
	}
	text := message(err)
	if _, usage := errors.AsType[*UsageError](err); usage { // it quotes the command line
		text = terminal.Line(text)
	}
	return "gatewayctl: " + terminal.Lines(text)
}

func message(err error) string {
	if d := detail(err); d != nil {
		return terminal.Line(d.GetCode() + ": " + d.GetMessage())
	}
	s, ok := status.FromError(err)
	if !ok {
		return err.Error()
	}
	if other := otherServer(s.Message()); other != "" {
		return other
	}
	switch s.Code() {
	case codes.Unavailable:
		if strings.Contains(s.Message(), "first record does not look like a TLS handshake") {
			return "what answers there does not speak TLS: --tls off speaks without, where nobody else is on the way"
		}
		if strings.Contains(s.Message(), "x509: ") {
			return "the control plane's certificate can't be verified: " + terminal.Line(reason(s.Message())) +
				" (--ca-cert takes the authority that it is from)"
		}
		return "the control plane can't be reached: " + terminal.Line(reason(s.Message())) +
			" (--server or GATEWAYCTL_SERVER says where it is)"
	case codes.DeadlineExceeded:
		return "the control plane did not answer in time (--timeout says how long to wait)"
	}
	return s.Code().String() + ": " + terminal.Line(s.Message())
}

// reason takes gRPC's own words off what the network said.
func reason(message string) string {
	if _, text, ok := strings.Cut(message, "while dialing: "); ok {
		return strings.TrimSuffix(text, `"`)
	}
	return message
}

// form writes what is wrong with the form of files, with the lines of those that can be read again.
func form(errs file.Errors) string {
	sources := map[string]*file.Source{}
	all := make([]string, len(errs))
	for i, e := range errs {
		if _, read := sources[e.Path]; !read {
			sources[e.Path] = nil
			if text, err := os.ReadFile(e.Path); err == nil && e.Path != "-" {
				sources[e.Path] = file.NewSource(text)
			}
		}
		all[i] = terminal.Line(e.Error())
		if source := sources[e.Path]; source != nil && e.Line >= 1 {
			all[i] += excerpt(source, e.Line, e.Column)
		}
	}
	return strings.Join(all, "\n")
}
