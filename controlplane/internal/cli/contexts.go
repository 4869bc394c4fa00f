package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Context is one control plane, and who is seen to call it.
type Context struct {
	// Server is the admin API's gRPC address; see ServerAddress.
	Server string `json:"server"`
	// Token is the bearer token; empty: none is kept.
	Token string `json:"token,omitempty"`
	// CACert is a file with the authorities that the server's certificate may be from; empty: the system's.
	CACert string `json:"ca_cert,omitempty"`
	// TLS is auto (also ""), on or off; see Settings.
	TLS string `json:"tls,omitempty"`
	// Insecure takes any certificate.
	Insecure bool `json:"insecure,omitempty"`
}

// Contexts are the control planes that a user knows, by name.
type Contexts struct {
	// Current is the one that is called when nothing else is said; empty: none.
	Current  string             `json:"current,omitempty"`
	Contexts map[string]Context `json:"contexts,omitempty"`

	path string
}

// contextName is what a context may be called.
var contextName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// CheckContextName refuses a name that is none.
func CheckContextName(name string) error {
	if !contextName.MatchString(name) {
		return &UsageError{fmt.Sprintf("context %q: has to be 1 to 64 letters, digits and \"._-\"", name)}
	}
	return nil
}

// contextsPath is the file that contexts are in: config.yaml in gatewayctl's folder of the user's configuration.
func contextsPath() (string, error) {
	dir := os.Getenv("XDG_CONFIG_HOME")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("contexts: %w", err)
		}
		dir = filepath.Join(home, ".config")
	}
	return filepath.Join(dir, "gatewayctl", "config.yaml"), nil
}

// LoadContexts reads the user's contexts; there may be none. A file that others may read is refused: it has tokens.
func LoadContexts() (*Contexts, error) {
	c := &Contexts{Contexts: map[string]Context{}}
	var err error
	if c.path, err = contextsPath(); err != nil {
		return c, nil //nolint:nilerr // without a home there are none
	}
	info, err := os.Stat(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return nil, &UsageError{"contexts: " + err.Error()}
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, &UsageError{fmt.Sprintf("contexts: %s can be read by others (mode %04o), and may have tokens: "+
			"chmod 600 %s",
			c.path, info.Mode().Perm(), c.path)}
	}
	text, err := os.ReadFile(c.path)
	if err != nil {
		return nil, &UsageError{"contexts: " + err.Error()}
	}
	if err := yaml.UnmarshalStrict(text, c); err != nil {
		// What a parser says may quote the file, and with it a token.
		return nil, &UsageError{fmt.Sprintf("contexts: %s is no YAML of gatewayctl's", c.path)}
	}
	if c.Contexts == nil {
		c.Contexts = map[string]Context{}
	}
	return c, nil
}

// Save writes the contexts, for the user alone, in one step.
func (c *Contexts) Save() error {
	if c.path == "" {
		return errors.New("contexts: there is no home folder to keep them in: set XDG_CONFIG_HOME")
	}
	text, err := yaml.Marshal(c)
	if err != nil {
		return fmt.Errorf("contexts: %w", err)
	}
	dir := filepath.Dir(c.path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("contexts: %w", err)
	}
	f, err := os.CreateTemp(dir, ".config-*") // mode 0600
	if err != nil {
		return fmt.Errorf("contexts: %w", err)
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), c.path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("contexts: %w", err)
	}
	return nil
}

// Get returns a context.
func (c *Contexts) Get(name string) (Context, error) {
	one, ok := c.Contexts[name]
	if !ok {
		there := "there are none yet (gatewayctl login, or gatewayctl context set, makes one)"
		if len(c.Contexts) > 0 {
			there = "there are " + strings.Join(slices.Sorted(maps.Keys(c.Contexts)), ", ")
		}
		return one, &UsageError{fmt.Sprintf("there is no context %q: %s", name, there)}
	}
	return one, nil
}

// Resolve completes settings by a context: the one that they name, or the current one. What the command line or the
// environment says goes before. The token of a context that was not named goes to the context's own server only.
func (set Settings) Resolve() (Settings, error) {
	all, err := LoadContexts()
	if err != nil {
		return set, err
	}
	name := set.Context
	if name == "" {
		name = all.Current
	}
	if name == "" || set.Context == "" && set.Server != "" {
		if set.Server == "" {
			set.Server = "127.0.0.1:" + DefaultPort
		}
		return set, nil
	}
	one, err := all.Get(name)
	if err != nil {
		return set, err
	}
	if set.Server == "" {
		set.Server = one.Server
	}
	set.token = one.Token
	if set.CACert == "" {
		set.CACert = one.CACert
	}
	if set.TLS == "" {
		set.TLS = one.TLS
	}
	set.Insecure = set.Insecure || one.Insecure
	return set, nil
}
