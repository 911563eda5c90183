# What a device offers beside what state.sh says of it: `key<TAB>value` lines.
# $1 is the workspace, $2 the interpreter, $3 a Python program that says more; its arguments follow.

say() {
    [ -z "$2" ] || printf '%s\t%s\n' "$1" "$2"
}

root=$1 python=$2 program=$3
shift 3
made=
[ -d "$root" ] || made=1
if ! (umask 077 && mkdir -p -- "$root") 2>/dev/null; then
    say workspace denied
elif ! [ -O "$root" ] && ! [ -k "$root" ]; then
    say workspace foreign
else
    file=$root/probe-$$
    if (umask 077 && echo 'exit 0' >"$file") 2>/dev/null; then
        chmod 700 "$file"
        "$file" 2>/dev/null
        if [ $? -eq 126 ]; then say workspace noexec; else say workspace ok; fi
    else
        say workspace denied
    fi
    rm -f -- "$file"
fi
say room "$({ df -P -k -- "$root" || df -k "$root"; } 2>/dev/null | tail -n 1)"
[ -z "$made" ] || rmdir -- "$root" 2>/dev/null

if command -v "$python" >/dev/null 2>&1; then
    "$python" -c "$program" "$@" 2>/dev/null
fi
exit 0
