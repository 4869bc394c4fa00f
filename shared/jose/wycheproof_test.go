package jose

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// vectors reads one file of Wycheproof's test vectors. Their module is pinned where the other tools of tests are.
func vectors(t *testing.T, name string, into any) {
	t.Helper()
	cmd := exec.Command("go", "mod", "download", "-json", "github.com/c2sp/wycheproof")
	cmd.Dir = filepath.Join("..", "..", "e2e", "tools", "wycheproof")
	cmd.Env = append(os.Environ(), "GOWORK=off")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("get Wycheproof: %v: %s", err, out)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(module.Dir, "testvectors_v1", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatal(err)
	}
}

type vectorFile struct {
	TestGroups []struct {
		Comment         string
		Private, Public json.RawMessage
		Tests           []struct {
			TCID    int
			Comment string
			JWS     json.RawMessage
			Result  string
			Flags   []string
		}
	}
}

// exceptions are vectors that fare otherwise here than they say, with the reason.
var exceptions = map[string]string{
	"json_web_signature_test.json 346": "the key is for PS256 and the token says PS384",
	"json_web_signature_test.json 347": "the key's alg, ES521, is none",
	"json_web_signature_test.json 350": "the key is for PS256 and the token says PS384",
	"json_web_signature_test.json 351": "the key's alg, ES521, is none",
	"json_web_signature_test.json 367": "it is the token of vector 357, which is valid",
	"json_web_signature_test.json 370": "it is the token of vector 357, which is valid",
	"json_web_signature_test.json 372": "no other characters than those of base64url are read over",
	"json_web_signature_test.json 373": "no other characters than those of base64url are read over",
}

// TestWycheproof verifies what is valid and refuses what is not, of Wycheproof's vectors for signatures and keys.
func TestWycheproof(t *testing.T) {
	for _, name := range []string{"json_web_signature_test.json", "json_web_key_test.json"} {
		var file vectorFile
		vectors(t, name, &file)
		valid, invalid := 0, 0
		for _, g := range file.TestGroups {
			text := g.Public
			if text == nil {
				text = g.Private
			}
			var isSet struct{ Keys []json.RawMessage }
			if err := json.Unmarshal(text, &isSet); err != nil || isSet.Keys == nil {
				text = fmt.Appendf(nil, `{"keys":[%s]}`, text)
			}
			set, problems, parseErr := ParseSet(text, true)
			for _, c := range g.Tests {
				var jws string
				if json.Unmarshal(c.JWS, &jws) != nil {
					jws = string(c.JWS) // the JSON form, which is not read
				}
				err := parseErr
				if err == nil {
					if token, _, refusal := parse(jws); refusal != nil {
						err = refusal
					} else if _, refusal := set.Verify(token); refusal != nil {
						err = refusal
					}
				}
				want := c.Result == "valid"
				if want {
					valid++
				} else {
					invalid++
				}
				_, excepted := exceptions[fmt.Sprintf("%s %d", name, c.TCID)]
				if got := err == nil; got == want == excepted {
					t.Errorf("%s %d: %s: %s: %s, excepted: %t, but verifies: %t: %v, %v", name, c.TCID, g.Comment, c.Comment,
						c.Result, excepted, got, err, problems)
				}
			}
		}
		if valid < 5 || invalid < 20 {
			t.Errorf("%s has %d valid and %d invalid vectors", name, valid, invalid)
		}
	}
}
