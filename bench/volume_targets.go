package main

import (
	"fmt"
	"slices"
)

// targets holds the figures of volumes against what was asked for.
func (r *volumeResults) targets() []target {
	return []target{
		r.below(mountFew, 100), r.below(mountMany, 100), r.below(mountOne, 100),
		r.alike("create and mount, whatever the snapshot's size", 1.5, mountFew, mountMany, mountOne),
		r.besideDisk(warmRead, 0.9), r.besideDisk(warmRandom, 0.8), r.besideDisk(newWrite, 0.9),
		r.besideDisk(warmFind, 0.7), r.besideDisk(warmWalk, 0.7),
		r.below(coldWalk, 10),
		r.besideDisk(sqliteInsert, 0.9), r.besideDisk(sqliteSelect, 0.9), r.besideDisk(goBuild, 0.9),
		r.atMostTimes(commitMany, commitSingle, 2),
		r.belowBesides(commitMany, syncFile, 50),
		r.below(commitManyNone, 50),
		r.below(walkMemory, 512),
		r.alikeBetween(acknowledged, 1.25),
		r.belowBy(clusterName, replicated, 2000),
		r.belowBy(clusterName, listPins, 2), r.belowBy(clusterName, listPinsMemory, 100),
		r.belowBy(clusterName, learnPins, 2), r.belowBy(clusterName, learnPinsMemory, 100),
	}
}

func unmeasured(what, asked string) target {
	return target{what: what, asked: asked, measured: "–", verdict: "not measured"}
}

// below asks for a figure of volumes to be below a limit.
func (r *volumeResults) below(f figure, limit float64) target { return r.belowBy(volumeName, f, limit) }

func (r *volumeResults) belowBy(who string, f figure, limit float64) target {
	return r.lessThan(string(f), who, f, limit)
}

// alike asks for the largest of some figures of volumes to be at most so many times the smallest.
func (r *volumeResults) alike(what string, times float64, fs ...figure) target {
	t := unmeasured(what, fmt.Sprintf("about the same (within %.1f×)", times))
	var all []float64
	for _, f := range fs {
		got, ok := r.median(f, volumeName)
		if !ok {
			return t
		}
		all = append(all, got)
	}
	got := slices.Max(all) / slices.Min(all)
	t.measured = fmt.Sprintf("%.2f×", got)
	t.verdict = verdict(got <= times)
	return t
}

// alikeBetween asks for a figure of volumes to be with a cluster at most so many times what it is without.
func (r *volumeResults) alikeBetween(f figure, times float64) target {
	t := unmeasured(string(f)+", with a cluster against without", fmt.Sprintf("the same (within %.2f×)", times))
	with, ok := r.median(f, clusterName)
	without, also := r.median(f, volumeName)
	if !ok || !also {
		return t
	}
	w := f.row()
	t.measured = fmt.Sprintf("%.2f× (%.*f and %.*f %s)", with/without, w.digits, with, w.digits, without, w.unit)
	t.verdict = verdict(with/without <= times)
	return t
}

// besideDisk asks for volumes to have at least such a part of the speed of ext4.
func (r *volumeResults) besideDisk(f figure, part float64) target {
	t := unmeasured(string(f)+", against ext4", fmt.Sprintf("at least %.1f of its speed", part))
	own, ok := r.median(f, volumeName)
	disk, also := r.median(f, plainName)
	if !ok || !also {
		return t
	}
	w := f.row()
	got := w.speed(own, disk)
	t.measured = fmt.Sprintf("%.2f (ext4 %.*f %s, volume %.*f)", got, w.digits, disk, w.unit, w.digits, own)
	t.verdict = verdict(got >= part)
	return t
}

// atMostTimes asks for one figure of volumes to be at most so many times another.
func (r *volumeResults) atMostTimes(f, other figure, times float64) target {
	t := unmeasured(fmt.Sprintf("%s, against %s", f, other), fmt.Sprintf("at most %.0f×", times))
	a, ok := r.median(f, volumeName)
	b, also := r.median(other, volumeName)
	if !ok || !also {
		return t
	}
	t.measured = fmt.Sprintf("%.2f× (%.1f and %.1f %s)", a/b, a, b, f.row().unit)
	t.verdict = verdict(a/b <= times)
	return t
}

// belowBesides asks for a figure of volumes to be below a limit once what the disk takes for another is off.
func (r *volumeResults) belowBesides(f, besides figure, limit float64) target {
	w := f.row()
	t := unmeasured(fmt.Sprintf("%s, besides %s", f, besides), fmt.Sprintf("below %.0f %s", limit, w.unit))
	a, ok := r.median(f, volumeName)
	b, also := r.median(besides, plainName)
	if !ok || !also {
		return t
	}
	t.measured = fmt.Sprintf("%.1f %s (%.1f − %.1f)", a-b, w.unit, a, b)
	t.verdict = verdict(a-b < limit)
	return t
}

// speed is how fast a is as a part of b.
func (w row) speed(a, b float64) float64 {
	if w.rising {
		return a / b
	}
	return b / a
}
