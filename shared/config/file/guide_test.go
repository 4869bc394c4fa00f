package file_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.yaml.in/yaml/v3"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/certtest"
	"gateway.internal/shared/config"
	"gateway.internal/shared/config/file"
)

// root is the project's folder.
var root = filepath.Join("..", "..", "..")

// pages are what users read: the README, and every Markdown file of deploy.
func pages(t *testing.T) []string {
	t.Helper()
	list := []string{filepath.Join(root, "README.md")}
	for _, pattern := range []string{
		"deploy/*.md", "deploy/*/*.md", "dataplane/internal/middleware/*.md", "dataplane/internal/middleware/*/*.md",
	} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, found...)
	}
	if len(list) < 10 {
		t.Fatalf("only %d pages were found", len(list))
	}
	return list
}

// block is a fenced block of a page; line is that of its first line of text.
type block struct {
	info, text string
	line       int
}

func blocks(page string) []block {
	var list []block
	inside := false
	for i, line := range strings.SplitAfter(page, "\n") {
		switch rest, fence := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "```"); {
		case fence && !inside:
			list = append(list, block{info: rest, line: i + 2})
			inside = true
		case fence:
			inside = false
		case inside:
			list[len(list)-1].text += line
		}
	}
	return list
}

// TestPagesHaveValidConfigurations reads every block "yaml" of a page as a configuration, on top of the blocks before
// it on that page.
func TestPagesHaveValidConfigurations(t *testing.T) {
	for _, path := range pages(t) {
		name, _ := filepath.Rel(root, path)
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			base := config.Empty()
			for _, b := range blocks(string(text)) {
				language, rest, _ := strings.Cut(b.info, " ")
				if language != "yaml" {
					continue
				}
				if rest != "" {
					var any yaml.Node
					if err := yaml.Unmarshal([]byte(b.text), &any); err != nil {
						t.Errorf("%s:%d: %s", name, b.line, err)
					}
					continue
				}
				base = plan(t, name, base, b)
			}
		})
	}
}

// plan adds a block to what the page has before it, and reports what is wrong with the page's line.
func plan(t *testing.T, name string, base *config.Config, b block) *config.Config {
	t.Helper()
	doc, err := file.Load([]string{"-"}, strings.NewReader(strings.Repeat("\n", b.line-1)+b.text))
	if err != nil {
		var errs file.Errors
		if !errors.As(err, &errs) {
			t.Fatalf("%s:%d: %s", name, b.line, err)
		}
		for _, e := range errs {
			e.Path = name
			t.Errorf("%s", e)
		}
		return base
	}
	assumeCertificates(t, doc.Configuration)
	opts := config.PlanOptions{Now: time.Now(), NewID: uuid.NewString}
	edits := file.Edits(doc.Configuration)
	for {
		p, err := base.Plan(edits, opts)
		if err == nil {
			return p.Config
		}
		var problems config.Problems
		if !errors.As(err, &problems) {
			t.Errorf("%s:%d: %s", name, b.line, err)
			return base
		}
		if assumed := assumeServices(problems); len(assumed) > 0 {
			edits = append(edits, assumed...)
			continue
		}
		for _, problem := range problems {
			_, line, column, ok := doc.Position(problem.Location, problem.Field)
			if !ok {
				line, column = b.line, 1
			}
			t.Errorf("%s:%d:%d: %s", name, line, column, problem)
		}
		return base
	}
}

// assumeServices returns services for the names that problems say are none.
func assumeServices(problems config.Problems) []config.Edit {
	var edits []config.Edit
	seen := map[string]bool{}
	for _, p := range problems {
		if !strings.HasPrefix(p.Message, "names no service") || seen[p.Value] {
			continue
		}
		seen[p.Value] = true
		s := &configv1.Service{Name: p.Value, Endpoints: []*configv1.Endpoint{{Host: "127.0.0.1", Port: 9000}}}
		edits = append(edits, config.Edit{Kind: config.Service, Put: s})
	}
	return edits
}

// assumeCertificates puts a certificate where a page only shows that there is one.
func assumeCertificates(t *testing.T, c *configv1.Configuration) {
	t.Helper()
	for _, cert := range c.GetCertificates() {
		if !strings.Contains(cert.GetCertPem(), "...") && !strings.Contains(cert.GetClientAuth().GetCaPem(), "...") {
			continue
		}
		hosts := cert.GetHosts()
		if len(hosts) == 0 {
			hosts = []string{cert.GetName() + ".example.com"}
		}
		made := certtest.New(t, nil, x509.Certificate{
			Subject: pkix.Name{CommonName: hosts[0]}, DNSNames: hosts, NotAfter: time.Now().Add(90 * 24 * time.Hour),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		})
		if strings.Contains(cert.GetCertPem(), "...") {
			cert.CertPem, cert.KeyPem = made.CertPEM, made.KeyPEM
		}
		if strings.Contains(cert.GetClientAuth().GetCaPem(), "...") {
			cert.ClientAuth.CaPem = made.CertPEM
		}
	}
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	code    = regexp.MustCompile("`[^`]*`")
	heading = regexp.MustCompile(`(?m)^#+ +(.*)$`)
	notSlug = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// TestPagesHaveNoDeadLinks follows every relative link of a page, to a file or folder and to a heading in it.
func TestPagesHaveNoDeadLinks(t *testing.T) {
	for _, path := range pages(t) {
		name, _ := filepath.Rel(root, path)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		inside := false
		for i, line := range strings.Split(string(text), "\n") {
			if strings.HasPrefix(line, "```") {
				inside = !inside
			}
			if inside {
				continue
			}
			for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(line, ""), -1) {
				if err := follow(path, m[1]); err != nil {
					t.Errorf("%s:%d: %s", name, i+1, err)
				}
			}
		}
	}
}

func follow(page, to string) error {
	u, err := url.Parse(to)
	if err != nil {
		return fmt.Errorf("the link %q is no reference: %w", to, err)
	}
	if u.Scheme != "" {
		return nil
	}
	target := page
	if u.Path != "" {
		target = filepath.Join(filepath.Dir(page), filepath.FromSlash(u.Path))
	}
	if _, err := os.Stat(target); err != nil {
		return fmt.Errorf("the link %q leads nowhere", to)
	}
	if u.Fragment == "" {
		return nil
	}
	text, err := os.ReadFile(target)
	if err != nil {
		return fmt.Errorf("the link %q leads to a heading of something that can't be read", to)
	}
	for _, m := range heading.FindAllStringSubmatch(string(text), -1) {
		slug := strings.ReplaceAll(notSlug.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-")
		if slug == u.Fragment {
			return nil
		}
	}
	return fmt.Errorf("the link %q leads to a heading that %s does not have", to, filepath.Base(target))
}

// TestGuideListsItsPages keeps the guide's index whole.
func TestGuideListsItsPages(t *testing.T) {
	guide := filepath.Join(root, "deploy", "guide")
	index, err := os.ReadFile(filepath.Join(guide, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(guide, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range found {
		if name := filepath.Base(path); name != "README.md" && !strings.Contains(string(index), "("+name+")") {
			t.Errorf("deploy/guide/README.md has no link to %s", name)
		}
	}
}
