package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"gateway.internal/controlplane/internal/admin"
	"gateway.internal/controlplane/internal/catalog"
	"gateway.internal/controlplane/internal/cli"
	"gateway.internal/controlplane/internal/fleet"
	"gateway.internal/controlplane/internal/store/sql"
	"gateway.internal/shared/config"
	"gateway.internal/shared/waittest"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const token = "the-administrators-token"

// serve starts the admin API of a new control plane and makes it the one that gatewayctl calls. It returns who is in
// its fleet.
func serve(t *testing.T) *fleet.Fleet {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	s, err := sql.Open(t.Context(), "embedded:"+filepath.Join(t.TempDir(), "gateway.db"), log)
	if err != nil {
		t.Fatal(err)
	}
	c := catalog.New(s, log)
	registry := prometheus.NewRegistry()
	nodes := fleet.New(registry)
	g := admin.New(c, s, nodes, token, log, registry).GRPC()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	followed, served := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(followed)
		_ = c.Run(ctx)
	}()
	go func() {
		defer close(served)
		_ = g.Serve(ln)
	}()
	t.Cleanup(func() {
		g.Stop()
		cancel()
		<-followed
		<-served
		_ = s.Close()
	})
	waittest.UntilNil(t, "the catalog", func() error {
		if c.Current() == nil {
			return fmt.Errorf("not loaded")
		}
		return nil
	})
	t.Setenv("GATEWAYCTL_SERVER", ln.Addr().String())
	t.Setenv("GATEWAYCTL_TOKEN", token)
	return nodes
}

// gatewayctl runs one command line.
func gatewayctl(t *testing.T, stdin string, args ...string) (out, complaint string, code int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = run(t.Context(), args, strings.NewReader(stdin), &stdout, &stderr)
	return stdout.String(), stderr.String(), code
}

// What differs from run to run.
var (
	uuids   = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	times   = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`)
	servers = regexp.MustCompile(`127\.0\.0\.1:\d{5}`)
	spaces  = regexp.MustCompile(` +\n`)
)

// session runs command lines one after the other and compares all that is shown, and the exit codes, with a golden
// file.
func session(t *testing.T, golden string, lines ...string) {
	t.Helper()
	var all strings.Builder
	for _, line := range lines {
		out, complaint, code := gatewayctl(t, "", strings.Fields(line)...)
		fmt.Fprintf(&all, "$ gatewayctl %s\n%s", line, out)
		for said := range strings.Lines(complaint) {
			all.WriteString("! " + said)
		}
		if code != 0 {
			fmt.Fprintf(&all, "exit %d\n", code)
		}
		all.WriteByte('\n')
	}
	got := all.String()
	got = strings.ReplaceAll(got, cli.Author(), "AUTHOR")
	got = uuids.ReplaceAllString(got, "UUID")
	got = times.ReplaceAllString(got, "TIME")
	got = servers.ReplaceAllString(got, "SERVER")
	got = spaces.ReplaceAllString(got, "\n")
	path := filepath.Join("testdata", golden+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got; -update writes it)\n%s", path, d)
	}
}

func TestLifeOfAConfiguration(t *testing.T) {
	serve(t)
	session(t, "life",
		"get routes",
		"validate -f testdata/config",
		"diff -f testdata/config",
		"apply -f testdata/config --dry-run",
		"apply -f testdata/config -m first",
		"apply -f testdata/config",
		"diff -f testdata/config",
		"get routes",
		"get services",
		"get services -l team=accounts -o yaml",
		"get services --page 2 --per-page 1",
		"get route users-api -o json",
		"get middleware",
		"get pipelines",
		"get policies",
		"get consumers",
		"get certificates",
		"apply -f testdata/changed.yaml -o yaml",
		"diff --from 1",
		"diff -f testdata/config --prune",
		"disable route orders-api",
		"enable route orders-api",
		"disable service users",
		"delete service users",
		"delete consumer shop",
		"export",
		"revisions",
		"revisions 2",
		"rollback 1 --dry-run",
		"rollback 1 -m back",
		"diff -f testdata/config --prune",
		"nodes",
		"apply -f testdata/changed.yaml --prune",
		"apply -f testdata/changed.yaml --prune --allow-shrink",
		"apply -f testdata/config --expected-revision 1",
	)
}

func TestHistory(t *testing.T) {
	serve(t)
	session(t, "history",
		"apply -f testdata/config",
		"disable route orders-api -m außer-Betrieb",
		"enable route orders-api --message 漢字",
		"revisions",
		"get routes --revision 1",
		"history prune",
		"history prune --newest 2 --age -1h",
		"history prune --newest 2 --dry-run",
		"history prune --newest 2 --age 1h",
		"history prune --newest 2",
		"revisions",
		"rollback 1",
		"get routes --revision 1",
		"rollback 2",
		"history purge-secrets --dry-run",
		"history purge-secrets -o json",
	)
}

func TestErrors(t *testing.T) {
	serve(t)
	session(t, "errors",
		"apply -f testdata/bad/meaning.yaml",
		"validate -f testdata/bad/meaning.yaml",
		"validate -f testdata/bad/meaning.yaml --offline",
		"validate -f testdata/bad/form.yaml",
		"apply -f testdata/bad/fields.yaml",
		"apply -f testdata/none.yaml",
		"apply",
		"get",
		"get bananas",
		"get route none",
		"get routes -o xml",
		"get routes -l =",
		"delete route none",
		"revisions 7",
		"revisions x",
		"rollback 7",
		"nodes none",
		"aply",
		"bananas",
		"get routes --bananas",
		"get routes --pgae 2",
		"get routes --per-page x",
		"validate -f testdata/bad/near.yaml",
		"validate -f testdata/config --offline",
	)
}

func TestWarnings(t *testing.T) {
	serve(t)
	session(t, "warnings",
		"validate -f testdata/odd.yaml",
		"validate -f testdata/odd.yaml --offline",
		"diff -f testdata/odd.yaml",
		"apply -f testdata/odd.yaml",
		"disable route users",
		"enable route users",
		"rollback 2",
	)
}

func TestWithoutControlPlane(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("GATEWAYCTL_TOKEN", "")
	if _, complaint, code := gatewayctl(t, "", "get", "routes"); code != cli.ExitUnauthenticated || !strings.Contains(complaint, "GATEWAYCTL_TOKEN") {
		t.Errorf("without a token: exit %d, %s", code, complaint)
	}
	t.Setenv("GATEWAYCTL_TOKEN", "some")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := ln.Addr().String()
	_ = ln.Close()
	_, complaint, code := gatewayctl(t, "", "get", "routes", "--server", address)
	if code != cli.ExitUnavailable || !strings.Contains(complaint, "can't be reached") || strings.Contains(complaint, "rpc error") {
		t.Errorf("nobody listens: exit %d, %s", code, complaint)
	}
}

func TestTokens(t *testing.T) {
	serve(t)
	dir := t.TempDir()
	t.Chdir(dir)
	right, wrong := filepath.Join(dir, "right"), filepath.Join(dir, "wrong")
	for path, text := range map[string]string{right: token + "\n", wrong: "another"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, complaint, code := gatewayctl(t, "", "get", "routes", "--token-file", wrong); code != cli.ExitUnauthenticated {
		t.Errorf("a wrong token in a file: exit %d, %s", code, complaint)
	}
	t.Setenv("GATEWAYCTL_TOKEN", "another")
	if _, complaint, code := gatewayctl(t, "", "get", "routes"); code != cli.ExitUnauthenticated {
		t.Errorf("a wrong token in the environment: exit %d, %s", code, complaint)
	}
	if _, complaint, code := gatewayctl(t, "", "get", "routes", "--token-file", right); code != 0 {
		t.Errorf("the file goes before the environment: exit %d, %s", code, complaint)
	}
	t.Setenv("GATEWAYCTL_TOKEN", "")
	if err := os.MkdirAll("data/controlplane", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(right, "data/controlplane/admin-token"); err != nil {
		t.Fatal(err)
	}
	if _, complaint, code := gatewayctl(t, "", "get", "routes"); code != 0 {
		t.Errorf("the control plane's own file: exit %d, %s", code, complaint)
	}
}

func TestStandardInputAndExport(t *testing.T) {
	serve(t)
	if _, complaint, code := gatewayctl(t, "", "apply", "-f", "testdata/config", "-f", "testdata/changed.yaml"); code != cli.ExitInvalid || !strings.Contains(complaint, "twice") {
		t.Errorf("a name in two files: exit %d, %s", code, complaint)
	}
	if _, complaint, code := gatewayctl(t, "", "apply", "-f", "testdata/config"); code != 0 {
		t.Fatal(complaint)
	}
	exported, _, code := gatewayctl(t, "", "export")
	if code != 0 {
		t.Fatalf("export: exit %d", code)
	}
	out, complaint, code := gatewayctl(t, exported, "diff", "-f", "-", "--prune")
	if code != 0 || out != "" {
		t.Errorf("what was exported differs: exit %d, %s%s", code, out, complaint)
	}
	_, complaint, code = gatewayctl(t, "routes: [{name: a, path: b, service_id: users}]", "apply", "-f", "-")
	if code != cli.ExitInvalid || !strings.HasPrefix(complaint, "-:1:26: ") || !strings.Contains(complaint, "\n    1 | routes: [") {
		t.Errorf("exit %d, %s", code, complaint)
	}
}

// TestWhatGetShowsCanBeApplied gets every kind as YAML, and applies it: as it is, and where it is no longer there.
func TestWhatGetShowsCanBeApplied(t *testing.T) {
	serve(t)
	const content = `
services: [{name: s, endpoints: [{host: 127.0.0.1, port: 9000}, {host: 127.0.0.1, port: 9001, id: mine}],
  policy_id: calm}]
routes: [{name: r, path: /r, service_id: s, pipeline_id: p, labels: {a: "on"}}, {name: q, path: /q,
  direct_response: {status: 204}, enabled: false}]
middleware: [{name: m, type: headers, order: 1, config: {request: {set: {X: "1"}}}}]
pipelines: [{name: p, middleware_ids: [m]}]
policies: [{name: calm, timeout: 5s, max_request_bytes: 0}]
consumers: [{name: c, groups: [a]}]
certificates: [{name: shop, hosts: [shop.test], acme: {}}]
`
	if _, complaint, code := gatewayctl(t, content, "apply", "-f", "-"); code != 0 {
		t.Fatal(complaint)
	}
	what := [][]string{{"route", "q"}}
	for _, k := range config.Kinds() {
		what = append(what, []string{k.Plural()})
	}
	for _, args := range what {
		shown, complaint, code := gatewayctl(t, "", slices.Concat([]string{"get"}, args, []string{"-o", "yaml"})...)
		if code != 0 || uuids.MatchString(shown) {
			t.Fatalf("%v: exit %d: %s\n%s", args, code, complaint, shown)
		}
		out, complaint, code := gatewayctl(t, shown, "apply", "-f", "-")
		if code != 0 || complaint != "" || !strings.Contains(out, "nothing to change") {
			t.Errorf("%v, applied again: exit %d: %s%s\n%s", args, code, out, complaint, shown)
		}
	}
	saved, _, _ := gatewayctl(t, "", "get", "routes", "-o", "yaml")
	for _, name := range []string{"r", "q"} {
		if _, complaint, code := gatewayctl(t, "", "delete", "route", name); code != 0 {
			t.Fatal(complaint)
		}
	}
	if out, complaint, code := gatewayctl(t, saved, "apply", "-f", "-"); code != 0 || !strings.Contains(out,
		"2 created") {
		t.Errorf("after they were deleted: exit %d: %s%s", code, out, complaint)
	}
}

// TestLargeConfiguration: configurations are far larger than gRPC's own limit of 4 MiB.
func TestLargeConfiguration(t *testing.T) {
	const n, size = 500, 40_000
	serve(t)
	var text strings.Builder
	text.WriteString("routes:\n")
	body := strings.Repeat("a rather long answer ", size/21)
	for i := range n {
		fmt.Fprintf(&text, "  - {name: route-%d, path: /api/%d/*, direct_response: {body: %q}}\n", i, i, body)
	}
	out, complaint, code := gatewayctl(t, text.String(), "apply", "-f", "-")
	if code != 0 || !strings.Contains(out, fmt.Sprintf("%d created", n)) {
		t.Fatalf("%d bytes: exit %d, %.300s%.300s", text.Len(), code, out, complaint)
	}
	out, complaint, code = gatewayctl(t, "", "export")
	if code != 0 || strings.Count(out, "name: route-") != n || len(out) < n*size*9/10 {
		t.Errorf("export: exit %d, %d bytes, %.300s", code, len(out), complaint)
	}
	t.Logf("%d MB there, %d MB back", text.Len()>>20, len(out)>>20)
}

func TestCompletion(t *testing.T) {
	serve(t)
	if _, complaint, code := gatewayctl(t, "", "apply", "-f", "testdata/config"); code != 0 {
		t.Fatal(complaint)
	}
	for line, want := range map[string]string{
		"get ":          "routes",
		"get routes ":   "users-api",
		"delete route ": "orders-api",
	} {
		args := append([]string{"__complete"}, strings.Split(line, " ")...)
		out, _, code := gatewayctl(t, "", args...)
		if code != 0 || !strings.Contains(out, want+"\n") {
			t.Errorf("%q completes to %q, without %s", line, out, want)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if out, _, code := gatewayctl(t, "", "completion", shell); code != 0 || !strings.Contains(out, "gatewayctl") {
			t.Errorf("completion %s: exit %d", shell, code)
		}
	}
}
