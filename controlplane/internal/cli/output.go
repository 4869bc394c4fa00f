package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/structpb"

	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/config/file"
	"gateway.internal/shared/terminal"
)

func findType(name protoreflect.FullName) (protoreflect.MessageType, error) {
	return protoregistry.GlobalTypes.FindMessageByName(name)
}

// Formats are the values of --output.
var Formats = []string{"table", "json", "yaml"}

// Print writes messages as JSON or YAML: a list of them, or one alone.
func Print[M proto.Message](w io.Writer, format string, list []M, single bool) error {
	parts := make([]json.RawMessage, len(list))
	for i, m := range list {
		raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
		if err != nil {
			return err
		}
		parts[i] = raw
	}
	var v any = parts
	if single && len(parts) == 1 {
		v = parts[0]
	}
	out, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	out = terminal.JSON(out)
	if format == "yaml" {
		if out, err = file.FromJSON(out); err != nil {
			return err
		}
		_, err = w.Write(out)
		return err
	}
	_, err = fmt.Fprintln(w, string(out))
	return err
}

// PrintFile writes resources as a file in YAML that can be applied. It changes them.
func PrintFile(w io.Writer, list []config.Message) error {
	out, err := file.Marshal(file.Of(list))
	if err != nil {
		return err
	}
	_, err = w.Write(out)
	return err
}

// Table writes rows under headings. What is in a cell stays in it.
func Table(w io.Writer, headings []string, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 4, 3, ' ', 0)
	fmt.Fprintln(t, strings.Join(headings, "\t"))
	for _, r := range rows {
		cells := make([]string, len(r))
		for i, c := range r {
			cells[i] = terminal.Line(c)
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	return t.Flush()
}

// columns are what a table shows of a kind, without the name and the version that all kinds have.
type columns struct {
	headings []string
	cells    func(m config.Message) []string
}

func columnsOf(k config.Kind) columns {
	return map[config.Kind]columns{
		config.Route: {
			[]string{"PATH", "METHODS", "HOSTS", "LISTENER", "TARGET", "PRIORITY", "ENABLED"},
			func(m config.Message) []string {
				r := m.(*configv1.Route)
				methods := strings.Join(append(r.GetMethods(), nonEmpty(r.GetMethod())...), ",")
				return []string{r.GetPath(), OrDash(methods), OrDash(strings.Join(r.GetHosts(), ",")), OrDash(listener(r)),
					target(r), fmt.Sprint(r.GetPriority()), fmt.Sprint(r.GetEnabled())}
			},
		},
		config.Service: {[]string{"PROTOCOL", "BALANCER", "ENDPOINTS", "HEALTHY"}, func(m config.Message) []string {
			s := m.(*configv1.Service)
			return []string{s.GetProtocol(), s.GetLoadBalancerType(), endpoints(s), healthy(s)}
		}},
		config.Middleware: {[]string{"TYPE", "ORDER", "ENABLED"}, func(m config.Message) []string {
			w := m.(*configv1.Middleware)
			return []string{w.GetType(), fmt.Sprint(w.GetOrder()), fmt.Sprint(w.GetEnabled())}
		}},
		config.Pipeline: {[]string{"MIDDLEWARE", "PARALLEL", "GLOBAL"}, func(m config.Message) []string {
			p := m.(*configv1.Pipeline)
			return []string{fmt.Sprint(len(p.GetMiddlewareIds())), fmt.Sprint(p.GetParallel()), fmt.Sprint(p.GetGlobal())}
		}},
		config.Policy: {[]string{"TIMEOUT", "MAX TIMEOUT"}, func(m config.Message) []string {
			p := m.(*configv1.Policy)
			return []string{OrDash(p.GetTimeout()), OrDash(p.GetMaxTimeout())}
		}},
		config.Consumer: {[]string{"GROUPS"}, func(m config.Message) []string {
			return []string{OrDash(strings.Join(m.(*configv1.Consumer).GetGroups(), ","))}
		}},
		config.Certificate: {[]string{"HOSTS", "ENDS"}, func(m config.Message) []string {
			c := m.(*configv1.Certificate)
			return []string{strings.Join(c.GetHosts(), ","), c.GetNotAfter().AsTime().Format(time.DateOnly)}
		}},
	}[k]
}

// Rows returns what a table shows of resources of a kind.
func Rows(k config.Kind, list []config.Message) (headings []string, rows [][]string) {
	of := columnsOf(k)
	headings = append([]string{"NAME"}, of.headings...)
	for _, m := range list {
		row := append([]string{m.GetName()}, of.cells(m)...)
		rows = append(rows, append(row, fmt.Sprint(m.GetVersion())))
	}
	return append(headings, "VERSION"), rows
}

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// OrDash returns what a cell shows of a text, which may be empty.
func OrDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// listener is where a route's requests come in, such as "http :8080,:8081"; empty: anywhere.
func listener(r *configv1.Route) string {
	ports := make([]string, len(r.GetPorts()))
	for i, n := range r.GetPorts() {
		ports[i] = fmt.Sprint(":", n)
	}
	return strings.TrimSpace(strings.Join(r.GetSchemes(), ",") + " " + strings.Join(ports, ","))
}

func target(r *configv1.Route) string {
	switch {
	case r.GetRedirect() != nil:
		return "redirect"
	case r.GetDirectResponse() != nil:
		return "response"
	case len(r.GetBackends()) > 0:
		return fmt.Sprintf("%d services", len(r.GetBackends()))
	}
	return "service " + r.GetServiceId()
}

func endpoints(s *configv1.Service) string {
	if s.GetDiscovery() != nil {
		return "discovered"
	}
	var list []string
	for _, e := range s.GetEndpoints() {
		list = append(list, config.EndpointKey(e))
	}
	if len(list) > 3 {
		list = append(list[:3], fmt.Sprintf("and %d more", len(list)-3))
	}
	return OrDash(strings.Join(list, ","))
}

func healthy(s *configv1.Service) string {
	if s.Healthy == nil {
		return "-"
	}
	return fmt.Sprint(s.GetHealthy())
}

// Changes writes what changes, a line each and the fields below.
func Changes(w io.Writer, changes []*adminv1.Change, color bool) {
	paint := func(code, s string) string {
		if !color {
			return s
		}
		return "\x1b[" + code + "m" + s + "\x1b[0m"
	}
	for _, ch := range changes {
		name := terminal.Line(ch.GetKind() + " " + ch.GetName())
		switch ch.GetAction() {
		case adminv1.Change_ACTION_CREATED:
			fmt.Fprintln(w, paint("32", "+ "+name))
		case adminv1.Change_ACTION_DELETED:
			fmt.Fprintln(w, paint("31", "- "+name))
		default:
			fmt.Fprintln(w, paint("33", "~ "+name))
			for _, f := range ch.GetFields() {
				fmt.Fprintf(w, "    %s: %s -> %s\n", terminal.Line(f.GetPath()), short(f.GetBefore()), short(f.GetAfter()))
			}
		}
	}
}

func short(v *structpb.Value) string {
	if v == nil {
		return "(none)"
	}
	b, err := json.Marshal(v.AsInterface())
	if err != nil {
		return "?"
	}
	if len(b) > 120 {
		return terminal.Line(strings.ToValidUTF8(string(b[:120]), "")) + "..."
	}
	return terminal.Line(string(b))
}

// Summary counts changes: "2 created, 1 updated".
func Summary(changes []*adminv1.Change) string {
	counts := map[adminv1.Change_Action]int{}
	for _, ch := range changes {
		counts[ch.GetAction()]++
	}
	var parts []string
	for _, a := range []struct {
		action adminv1.Change_Action
		text   string
	}{{adminv1.Change_ACTION_CREATED, "created"}, {adminv1.Change_ACTION_UPDATED, "updated"}, {adminv1.Change_ACTION_DELETED, "deleted"}} {
		if n := counts[a.action]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, a.text))
		}
	}
	if len(parts) == 0 {
		return "nothing to change"
	}
	return strings.Join(parts, ", ")
}
