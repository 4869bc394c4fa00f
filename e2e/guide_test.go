package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"gateway.internal/controlplane/testserver"
)

// notRun are the blocks of commands of the guide that a test can't run, by page and their first line, with the reason.
var notRun = map[string]string{
	"adding-a-middleware.md: make proto":                    "writes the source that this test is of",
	"chaos.md: make chaos":                                  "takes minutes",
	"development.md: make help":                             "make is what runs this test",
	"operations.md: systemctl reload gateway-dataplane":     "needs systemd",
	"operations.md: systemctl restart gateway-controlplane": "needs systemd",
	"replace.md: kill -USR2 $(pidof dataplane)":             "would end the nodes of other tests",

	"secrets.md: openssl rand -base64 32 > /etc/gateway/encryption-key && chmod 600 /etc/gateway/encryption-key": "writes " +
		"to /etc, and encrypts the store of the control plane that other pages have, which has no key",
	"secrets.md: controlplane rotate-keys --store \"$GATEWAY_STORE\" --encryption-key-file /etc/gateway/encryption-key": "the " +
		"same",
}

// TestGuide does what each page of the guide shows, in its order: configuration is applied, commands are run. All pages
// share a control plane on PostgreSQL, a node and a service.
func TestGuide(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob(filepath.Join("..", "deploy", "guide", "*.md"))
	if err != nil || len(pages) < 20 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	r := newPageReader(t)
	left := map[string]bool{}
	for first := range notRun {
		left[first] = true
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(page)
		blocks := fenced.FindAllStringSubmatch(string(text), -1)
		if len(blocks) == 0 {
			continue
		}
		for _, b := range blocks {
			if b[1] != "sh elsewhere" {
				continue
			}
			first, _, _ := strings.Cut(name+": "+b[2], "\n")
			if notRun[first] == "" {
				t.Errorf("%q is not run, and notRun does not say why", first)
			}
			delete(left, first)
		}
		t.Run(name, func(t *testing.T) {
			r.begin(t)
			for _, b := range blocks {
				switch info, shown := b[1], b[2]; info {
				case "yaml", "yaml files":
					r.apply(shown)
				case "sh":
					r.run(shown)
				case "sh server":
					r.checkFlags(shown)
				case "output":
					if !strings.Contains(r.printed, shown) {
						t.Errorf("the page shows\n%sand the commands before it print\n%s", shown, r.printed)
					}
				case "yaml other", "sh elsewhere", "json", "":
				default:
					t.Errorf("nobody knows what becomes of a block %q", info)
				}
			}
		})
	}
	for first := range left {
		t.Errorf("notRun has %q, which no page has", first)
	}
}

var fenced = regexp.MustCompile("(?sm)^```([a-z ]*)\n(.*?)^```$")

// pageReader is somebody who types what the pages show.
type pageReader struct {
	*gateway
	node    *node
	env     []string
	places  *strings.Replacer // the addresses of the pages, and those of the test
	folder  string            // that of the page
	changed bool              // a page has changed the configuration
	printed string            // what the last commands have printed
}

func newPageReader(t *testing.T) *pageReader {
	t.Helper()
	store := testserver.NewPostgreSQL(t)
	g := newGateway(t, "--store", store.URL)
	n := g.node("n1")
	backend := "127.0.0.1, port: " + strconv.Itoa(service(t, "a service"))
	clients, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		t.Fatal(err)
	}
	path := append([]string{filepath.Dir(bin(t, "gatewayctl"))}, clients...)
	return &pageReader{
		gateway: g, node: n,
		env: append(os.Environ(),
			"PATH="+strings.Join(append(path, os.Getenv("PATH")), ":"),
			"GATEWAYCTL_SERVER="+g.grpc, "GATEWAYCTL_TOKEN="+adminToken, "TOKEN="+adminToken, "GATEWAY_STORE="+store.URL),
		places: strings.NewReplacer(
			"127.0.0.1:8080", n.http, "localhost:8080", n.http, "127.0.0.1:8081", n.status,
			"127.0.0.1:9080", g.rest, "127.0.0.1:9090", g.grpc, "127.0.0.1, port: 9000", backend,
		),
	}
}

// begin begins a page, with nothing that another one has left.
func (r *pageReader) begin(t *testing.T) {
	t.Helper()
	r.gateway.t, r.node.t, r.folder = t, t, t.TempDir()
	if r.changed {
		r.run("echo 'routes: []' | gatewayctl apply -f - --prune --allow-shrink")
	}
	r.changed = false
}

// apply applies a block of configuration, which is in gateway.yaml then, and waits until the node runs it.
func (r *pageReader) apply(yaml string) {
	r.t.Helper()
	write(r.t, filepath.Join(r.folder, "gateway.yaml"), r.places.Replace(yaml))
	r.run("gatewayctl apply -f gateway.yaml")
}

// settled makes a change of the configuration last until the node runs it, as it does for somebody who types.
const settled = `gatewayctl() {
	command gatewayctl "$@"
	local code=$? end=$((SECONDS + 120))
	until command gatewayctl nodes | grep -Eq 'connected +[0-9]+ +0 '; do
		if ((SECONDS > end)); then echo "the node does not run what was changed"; command gatewayctl nodes; exit 1; fi
	done
	return $code
}
`

// script makes a shell stop at what fails, and tells the status of what curl gets.
const script = "set -euo pipefail\n" + settled +
	`curl() { command curl --silent --show-error --max-time 10 --write-out '%{stderr}<answered %{http_code}>' "$@"; }
`

var (
	// statusShown is the status that a page says a command of curl is answered with, answered that of a response.
	statusShown = regexp.MustCompile(`(?m)^curl .*# (\d{3})\b`)
	answered    = regexp.MustCompile(`<answered (\d{3})>`)
)

// run runs commands in the page's folder. An answer of 4xx or 5xx has to be one that the page shows.
func (r *pageReader) run(commands string) {
	r.t.Helper()
	r.changed = true
	cmd := exec.Command("bash", "-c", script+r.places.Replace(commands))
	cmd.Dir, cmd.Env = r.folder, r.env
	out, err := cmd.CombinedOutput()
	if r.printed = string(out); err != nil {
		r.t.Errorf("%v of\n%s%s", err, commands, out)
	}
	shown, answers := firstGroups(statusShown, commands), firstGroups(answered, r.printed)
	for _, status := range shown {
		if !slices.Contains(answers, status) {
			r.t.Errorf("no answer is %s, as the page says, of\n%s%s", status, commands, out)
		}
	}
	for _, status := range answers {
		if status >= "400" && !slices.Contains(shown, status) {
			r.t.Errorf("an answer is %s, of which the page says nothing, of\n%s%s", status, commands, out)
		}
	}
}

// firstGroups returns what the first group of an expression has matched, each time.
func firstGroups(e *regexp.Regexp, text string) (all []string) {
	for _, m := range e.FindAllStringSubmatch(text, -1) {
		all = append(all, m[1])
	}
	return all
}

// checkFlags sees that a command which starts a process has only flags that there are.
func (r *pageReader) checkFlags(command string) {
	r.t.Helper()
	command = strings.TrimSuffix(strings.ReplaceAll(command, "\\\n", " "), "\n")
	for line := range strings.SplitSeq(command, "\n") {
		line, _, _ = strings.Cut(line, " #")
		cmd := exec.Command("bash", "-c", strings.TrimSuffix(line, "...")+" --help")
		cmd.Dir, cmd.Env = r.folder, r.env
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "Usage") {
			r.t.Errorf("%s: %v\n%s", line, err, out)
		}
	}
}
