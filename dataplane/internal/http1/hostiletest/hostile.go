// Package hostiletest is a corpus of messages that are meant to be understood in two ways, with the verdict on each:
// what clients send to a proxy is in client.txt, what services answer in upstream.txt. Tests send them through a whole
// proxy, and hold the parsers against other ones.
//
// A case is
//
//	== name
//	# Why somebody would send this.
//	? option
//	GET / HTTP/1.1\r\n
//	\r\n
//	-> verdict
//
// The message is what stands between, without the file's own line ends: \r, \n, \t, \\ and \xNN are bytes, and
// \*1000{ab} is ab a thousand times, in options and verdicts too. Lines with ## are headings. Options and verdicts are
// explained at the top of each file.
package hostiletest

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"
)

// Case is one message.
type Case struct {
	// Name is unique in its file.
	Name string
	// Why says what the message is after.
	Why string
	// Options say how it is sent.
	Options []string
	// Message is what goes over the wire.
	Message []byte
	// Verdicts are what has to come of it.
	Verdicts []string
}

// Has reports whether the case has an option.
func (c *Case) Has(option string) bool {
	for _, o := range c.Options {
		if o == option {
			return true
		}
	}
	return false
}

// Option returns what follows a word among the options, and whether one starts with it.
func (c *Case) Option(word string) (string, bool) {
	for _, o := range c.Options {
		if rest, ok := strings.CutPrefix(o, word+" "); ok {
			return rest, true
		}
	}
	return "", false
}

//go:embed client.txt
var client string

//go:embed upstream.txt
var upstream string

// Client returns what clients send to a proxy.
func Client() ([]Case, error) { return parse("client.txt", client) }

// Upstream returns what services answer to a proxy.
func Upstream() ([]Case, error) { return parse("upstream.txt", upstream) }

func parse(file, text string) ([]Case, error) {
	var all []Case
	seen := map[string]bool{}
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		fail := func(what string) error { return fmt.Errorf("%s:%d: %s: %s", file, i+1, what, line) }
		if name, ok := strings.CutPrefix(line, "== "); ok {
			if seen[name] {
				return nil, fail("the name is there twice")
			}
			seen[name] = true
			all = append(all, Case{Name: name})
			continue
		}
		if len(all) == 0 {
			continue // the file's own explanation
		}
		c := &all[len(all)-1]
		switch {
		case line == "", strings.HasPrefix(line, "## "):
		case strings.HasPrefix(line, "# "):
			c.Why = strings.TrimSpace(c.Why + " " + line[2:])
		default:
			part, err := unquote(line)
			if err != nil {
				return nil, fail(err.Error())
			}
			if option, ok := strings.CutPrefix(string(part), "? "); ok {
				c.Options = append(c.Options, option)
			} else if verdict, ok := strings.CutPrefix(string(part), "-> "); ok {
				c.Verdicts = append(c.Verdicts, verdict)
			} else {
				c.Message = append(c.Message, part...)
			}
		}
	}
	for _, c := range all {
		if c.Why == "" || len(c.Verdicts) == 0 {
			return nil, fmt.Errorf("%s: %s has no reason or no verdict", file, c.Name)
		}
	}
	return all, nil
}

func unquote(line string) ([]byte, error) {
	var b []byte
	for line != "" {
		if line[0] != '\\' {
			b = append(b, line[0])
			line = line[1:]
			continue
		}
		if len(line) < 2 {
			return nil, fmt.Errorf("nothing follows the last backslash")
		}
		rest := line[2:]
		switch line[1] {
		case 'r':
			b = append(b, '\r')
		case 'n':
			b = append(b, '\n')
		case 't':
			b = append(b, '\t')
		case '\\':
			b = append(b, '\\')
		case 'x':
			if len(rest) < 2 {
				return nil, fmt.Errorf("two hexadecimal digits have to follow \\x")
			}
			n, err := strconv.ParseUint(rest[:2], 16, 8)
			if err != nil {
				return nil, err
			}
			b = append(b, byte(n))
			rest = rest[2:]
		case '*':
			times, after, ok := strings.Cut(rest, "{")
			part, after, closed := strings.Cut(after, "}")
			n, err := strconv.Atoi(times)
			if !ok || !closed || err != nil {
				return nil, fmt.Errorf("a repetition is \\*N{TEXT}")
			}
			text, err := unquote(part)
			if err != nil {
				return nil, err
			}
			b = append(b, strings.Repeat(string(text), n)...)
			rest = after
		default:
			return nil, fmt.Errorf("there is no escape \\%c", line[1])
		}
		line = rest
	}
	return b, nil
}
