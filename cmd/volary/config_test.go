package main

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

func TestEverySettingIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	settings := reflect.TypeFor[config]()
	for i := range settings.NumField() {
		key := settings.Field(i).Tag.Get("toml")
		if !strings.Contains(string(text), "| `"+key+"` |") {
			t.Errorf("%s is not in docs/configuration.md", key)
		}
		if !strings.Contains(configKeys, key) {
			t.Errorf("%s is not among the keys that an error lists", key)
		}
	}
}

func TestEveryKeyIsShown(t *testing.T) {
	text := config{}.text()
	for key := range strings.SplitSeq(strings.ReplaceAll(configKeys, " and ", ", "), ", ") {
		if !strings.Contains("\n"+text, "\n"+key+" = ") {
			t.Errorf("%s is not shown", key)
		}
	}
}
