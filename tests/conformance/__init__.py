"""Cases from other engines' public tests, fed to this one."""
