package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"gateway.internal/controlplane/internal/cli"
	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	"gateway.internal/shared/explain"
	"gateway.internal/shared/pathnorm"
	"gateway.internal/shared/routing"
	"gateway.internal/shared/terminal"
)

const aboutExplain = `Foretell what a node does with a request, by files alone: which route takes it, in which form
its path is looked at, which middleware runs in which order, which service gets it, and what that sees of the target.

FILE has the whole configuration, as "gatewayctl export" writes it: what it names is looked up in it alone. URL is what
a client would send, and not normalised before. What middleware decides is not foretold, nor what depends on bodies, on
the health of endpoints, or on trusted proxies before the node.`

func (r *root) explain() *cobra.Command {
	var files, fields []string
	var random, port uint32
	var client, consumer string
	var groups []string
	paths := pathnorm.DefaultSettings()
	cmd := &cobra.Command{
		Use: "explain -f FILE [METHOD] URL", Args: args(1, 2), Long: aboutExplain,
		Short: "Say what a node would do with a request if the files were the whole configuration",
		Example: "  gatewayctl explain -f gateway.yaml POST 'https://shop.example/cart?id=7' -H 'X-Version: 2'\n" +
			"  gatewayctl export | gatewayctl explain -f - http://shop.example/cart",
		RunE: func(cmd *cobra.Command, given []string) error {
			method, url := "GET", given[len(given)-1]
			if len(given) == 2 {
				method = given[0]
			}
			head, err := explain.ParseHead(method, url, fields)
			if err == nil {
				err = paths.Check()
			}
			if err == nil && port > 65535 {
				err = fmt.Errorf("--port %d: has to be from 1 to 65535", port)
			}
			var address netip.Addr
			if err == nil && client != "" {
				if address, err = netip.ParseAddr(client); err != nil {
					err = fmt.Errorf("--client %q: has to be an IP address", client)
				}
			}
			if err != nil {
				return &cli.UsageError{Message: err.Error()}
			}
			head.Client = routing.Client{Address: address, Consumer: consumer, Groups: groups}
			if head.Random = random; port != 0 {
				head.Port = uint16(port)
			}
			compiled, err := compile(cmd, files, paths)
			if err != nil {
				return err
			}
			return writeExplanation(cmd.OutOrStdout(), r.output, compiled.Explain(head))
		},
	}
	filesFlag(cmd, &files)
	f := cmd.Flags()
	f.StringArrayVarP(&fields, "header", "H", nil, "a header field of the request, NAME: VALUE; may be repeated")
	f.Uint32Var(&random, "random", 0, "the number that chooses one of several backends, modulo the sum of their weights")
	f.StringVar(&client, "client", "", "the client's IP address, for routes that are sticky by it")
	f.StringVar(&consumer, "consumer", "", "the consumer that middleware finds out, for routes that look at it")
	f.StringSliceVar(&groups, "group", nil, "a group of the consumer; may be repeated")
	f.Uint32Var(&port, "port", 0, "the port of the node that the request comes in at; 0: that of the URL")
	for _, o := range paths.Options() {
		f.Var(o.Action, "path-"+o.Name, "as on the nodes, for paths with "+o.About)
	}
	return cmd
}

// compile compiles files as a node would.
func compile(cmd *cobra.Command, files []string, paths pathnorm.Settings) (*explain.Compiled, error) {
	doc, err := load(cmd, files)
	if err != nil {
		return nil, err
	}
	plan, err := planOffline(doc)
	if invalid, ok := errors.AsType[*cli.InvalidError](err); ok && slices.ContainsFunc(invalid.Problems, namesNothing) {
		invalid.Problems = append(invalid.Problems, &adminv1.Problem{
			Message: "-f has to have the whole configuration, as gatewayctl export writes it: what it names is looked up " +
				"in it alone",
		})
	}
	if err != nil {
		return nil, err
	}
	warn(cmd, nil, doc)
	return explain.Compile(plan.Config, paths)
}

// namesNothing reports whether a problem is a reference to what the files do not have.
func namesNothing(p *adminv1.Problem) bool { return strings.HasPrefix(p.GetMessage(), "names no ") }

func writeExplanation(out io.Writer, format string, e *explain.Explanation) error {
	switch format {
	case "json":
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(e)
	case "yaml":
		text, err := yaml.Marshal(e)
		if err == nil {
			_, err = out.Write(text)
		}
		return err
	}
	say := func(heading, format string, args ...any) {
		fmt.Fprintf(out, "%-10s %s\n", heading, terminal.Line(fmt.Sprintf(format, args...)))
	}
	if t := e.TLS; t != nil {
		explainTLS(say, t)
	}
	if e.Route != "" {
		what := ""
		if e.Preflight {
			what = ", of the request that this preflight asks about"
		}
		say("route", "%s, for %s%s", e.Route, e.Pattern, what)
	}
	if e.Path != "" {
		say("path", "%s", e.Path)
	}
	for _, name := range slices.Sorted(maps.Keys(e.Parameters)) {
		say("", "%s = %s", name, e.Parameters[name])
	}
	explainService(say, e)
	if res := e.Response; res != nil {
		explainResponse(say, res)
	}
	return nil
}

func explainTLS(say func(heading, format string, args ...any), t *explain.TLS) {
	if len(t.Certificates) == 0 {
		say("tls", "the handshake is refused: there is no certificate for this host")
		return
	}
	asks := ""
	if t.ClientCertificate != "" {
		asks = "; client certificate " + t.ClientCertificate
	}
	say("tls", "certificate %s, TLS %s or later%s", strings.Join(t.Certificates, ", "), t.MinVersion, asks)
}

// explainService tells what runs for the service, and what it gets.
func explainService(say func(heading, format string, args ...any), e *explain.Explanation) {
	heading := "pipelines"
	for _, p := range e.Pipelines {
		var steps []string
		for _, s := range p.Steps {
			steps = append(steps, fmt.Sprintf("%s (%s)", s.Name, s.Type))
		}
		between, limit := ", then ", ""
		if p.Parallel {
			between = " beside "
		}
		if p.TimeoutMS > 0 {
			limit = fmt.Sprintf(", within %d ms", p.TimeoutMS)
		}
		of := "this " + string(p.For)
		if p.For == routing.ForAll {
			of = "all routes"
		}
		say(heading, "%s, for %s: %s%s", p.Name, of, strings.Join(steps, between), limit)
		heading = ""
	}
	if e.Service != "" {
		say("service", "%s", e.Service)
	}
	for _, b := range e.Backends {
		say("", "%.4g %% of requests go to %s", b.Probability*100, b.Service)
	}
	if e.Priority != "" {
		say("priority", "%s", e.Priority)
	}
	if e.SetCookie != "" {
		say("", "Set-Cookie: %s", e.SetCookie)
	}
	if u := e.Upstream; u != nil {
		say("request", "%s %s", u.Method, u.Target)
		host := u.Host
		if u.OwnHost {
			host = "that of the endpoint"
		}
		say("", "Host: %s", host)
		if u.Prefix != "" {
			say("", "X-Forwarded-Prefix: %s", u.Prefix)
		}
	}
	switch {
	case e.MirrorPercent > 0:
		say("mirror", "copies of %.4g %% of requests go to %s", e.MirrorPercent, e.Mirror)
	case e.Mirror != "":
		say("mirror", "a copy goes to %s", e.Mirror)
	}
}

func explainResponse(say func(heading, format string, args ...any), res *explain.Response) {
	text := fmt.Sprint(res.Status)
	if res.Code != "" {
		text += fmt.Sprintf(" %s: %s", res.Code, res.Reason)
	}
	say("response", "%s", text)
	if res.Location != "" {
		say("", "Location: %s", res.Location)
	}
	if res.Allow != "" {
		say("", "Allow: %s", res.Allow)
	}
}
