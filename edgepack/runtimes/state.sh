# What a device without Python says about itself: `key<TAB>value` lines, a key once for each value.
# edgepack.runtimes.state_lines reads them. sh and the common tools of toybox or busybox are enough;
# what a device cannot say is left out.

say() {
    [ -z "$2" ] || printf '%s\t%s\n' "$1" "$2"
}

# The first line of a file, without what would spoil a line of ours.
first() {
    head -n 1 "$1" 2>/dev/null | tr -d '\000\r\t'
}

# The value of the first line `name: value` of a file; the name is a pattern.
field() {
    sed -n -E "s/^($2)[[:space:]]*:[[:space:]]*//p" "$1" 2>/dev/null | head -n 1
}

has() {
    command -v "$1" >/dev/null 2>&1
}

say machine "$(uname -m)"
say kernel "$(uname -r)"
say board "$(first /proc/device-tree/model)"
say cpu "$(field /proc/cpuinfo 'model name|Model|Hardware|Processor')"
if has nproc; then say cores "$(nproc)"; else say cores "$(grep -c '^processor' /proc/cpuinfo)"; fi
for core in /sys/devices/system/cpu/cpu[0-9]*; do
    speed=$(first "$core/cpu_capacity")
    [ -n "$speed" ] || speed=$(first "$core/cpufreq/cpuinfo_max_freq")
    [ -n "$speed" ] && say core_speed "${core##*/cpu} $speed"
done
say memory "$(field /proc/meminfo MemTotal)"
say memory_free "$(field /proc/meminfo MemAvailable)"
say os "$(sed -n -E 's/^PRETTY_NAME="?([^"]*)"?$/\1/p' /etc/os-release 2>/dev/null | head -n 1)"
has dpkg && say userland "$(dpkg --print-architecture 2>/dev/null)"
if has getconf; then
    say bits "$(getconf LONG_BIT 2>/dev/null)"
    say libc "$(getconf GNU_LIBC_VERSION 2>/dev/null)"
fi
# The class of the program that reads itself, in an ELF file's fifth byte: 1 is 32-bit, 2 is 64-bit.
say elf_class "$(head -c 5 /proc/self/exe 2>/dev/null | tail -c 1 | od -A n -t u1 2>/dev/null | tr -d ' ')"
for loader in /lib/ld-linux-aarch64.so.1 /lib64/ld-linux-x86-64.so.2 /lib/ld-linux-armhf.so.3 \
    /lib/ld-musl-*.so.1 /system/bin/linker /system/bin/linker64; do
    [ -e "$loader" ] && say loader "$loader"
done

say load "$(first /proc/loadavg)"
for core in /sys/devices/system/cpu/cpu[0-9]*/cpufreq; do
    say governor "$(first "$core/scaling_governor")"
    say clock_khz "$(first "$core/scaling_cur_freq")"
done
for zone in /sys/class/thermal/thermal_zone*; do
    say zone "${zone##*/} $(first "$zone/temp") $(first "$zone/type")"
done
for counter in /sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/core_throttle_count; do
    say throttle_count "$(first "$counter")"
done
for cooler in /sys/class/thermal/cooling_device*; do
    kind=$(first "$cooler/type")
    case $kind in
        *[Ii]dle*) ;;
        *[Cc][Pp][Uu]*) say cooling "${cooler##*/} $(first "$cooler/cur_state") $kind" ;;
    esac
done
has vcgencmd && say throttled "$(vcgencmd get_throttled 2>/dev/null)"

if has getprop; then
    for property in ro.product.manufacturer ro.product.model ro.product.cpu.abi \
        ro.build.version.release ro.build.version.sdk ro.soc.model ro.board.platform; do
        say "$property" "$(getprop "$property" | head -n 1 | tr -d '\000\r\t')"
    done
    has dumpsys && say thermal_status \
        "$(dumpsys thermalservice 2>/dev/null | sed -n -E 's/^Thermal Status: ([0-9]+).*/\1/p' | head -n 1)"
fi
exit 0
