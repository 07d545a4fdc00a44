/* A library with a function of its own that libc has a name for. */
int
dup(int number)
{
    return number * 2;
}

int
call_own_dup(int number)
{
    return dup(number);
}
