// Command storechoice compares ways to keep blocks on a disk: Pebble with value separation, flatfs, and the
// packs of snapshot/store. It prints the medians as a table in Markdown; docs/adr/0002-pack-store.md holds one.
//
//	go run . [-rounds 3] [-dir DIR] [-load small,large,go] [-store pack,...]
//
// It needs root, to drop the page cache before cold reads. Each measurement is a process of its own, and the
// contenders take turns.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

func main() {
	rounds := flag.Int("rounds", 3, "how often everything is measured")
	dir := flag.String("dir", ".", "where the stores are made")
	loads := flag.String("load", "small,large,go", "what is stored")
	stores := flag.String("store", "pack,pebble,pebble-nowal,flatfs,plain", "the contenders")
	one := flag.String("one", "", "internal: measure one STORE/LOAD and print JSON")
	flag.Parse()
	if err := run(*rounds, *dir, strings.Split(*loads, ","), strings.Split(*stores, ","), *one); err != nil {
		fmt.Fprintln(os.Stderr, "storechoice:", err)
		os.Exit(1)
	}
}

func run(rounds int, dir string, loads, stores []string, one string) error {
	if one != "" {
		store, load, _ := strings.Cut(one, "/")
		r, err := measure(dir, store, load)
		if err != nil {
			return fmt.Errorf("%s: %w", one, err)
		}
		return json.NewEncoder(os.Stdout).Encode(r)
	}
	all := make(map[string][]map[string]float64)
	for round := range rounds {
		for _, load := range loads {
			for i := range stores {
				store := stores[(i+round)%len(stores)]
				r, err := child(dir, store, load)
				if err != nil {
					return err
				}
				all[store+"/"+load] = append(all[store+"/"+load], r)
				fmt.Fprintf(os.Stderr, "round %d %s %s %v\n", round+1, load, store, r)
			}
		}
	}
	for _, load := range loads {
		fmt.Printf("\n%s\n\n| | %s |\n|---|%s\n", loadTitles[load], strings.Join(columns, " | "), strings.Repeat("---:|", len(columns)))
		for _, store := range stores {
			fmt.Printf("| %s |", storeTitles[store])
			for _, c := range columns {
				fmt.Printf(" %s |", median(all[store+"/"+load], c))
			}
			fmt.Println()
		}
	}
	return nil
}

func child(dir, store, load string) (map[string]float64, error) {
	cmd := exec.Command(os.Args[0], "-dir", dir, "-one", store+"/"+load)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", store, load, err)
	}
	var r map[string]float64
	return r, json.Unmarshal(out, &r)
}

func median(rs []map[string]float64, column string) string {
	var vs []float64
	for _, r := range rs {
		if v, ok := r[column]; ok {
			vs = append(vs, v)
		}
	}
	if len(vs) == 0 {
		return "–"
	}
	slices.Sort(vs)
	if v := vs[len(vs)/2]; v >= 20 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.2f", vs[len(vs)/2])
}
