/* HeapBoard: a page of BLOCKS small blocks and one large block of two granules, USERS processes that
 * allocate, give, free for a shared object and adopt, RECOVERERS that clean up after the dead; all
 * may die at any step. See docs/design/heap.md.
 *
 * Every access to shared memory is a step of its own, with `DIE` in front of each that writes. A
 * process's private lists are the bits in `listed`, which nobody else reads. Whoever recovers waits
 * for a death; at the end somebody immortal recovers from all of them, and looks: nothing may be the
 * dead's, no shared block gone, none lost to a live process.
 *
 * Against the code: granule 0 is the page, granules 1 and 2 the large block, and there are no
 * others; the page is cut at once; each block is given to an object at most OBJECTS times in all.
 *
 * What tools/check_models runs:
 * run:    -DUSERS=2 -DDEATHS=1 -DSMALL
 * run:    -DUSERS=2 -DDEATHS=1 -DLARGE
 * run:    -DUSERS=1 -DDEATHS=2 -DSMALL -DRECOVERERS=2
 * run:    -DUSERS=1 -DDEATHS=2 -DLARGE -DRECOVERERS=2
 * prove:  -DUSERS=2 -DDEATHS=2 -DSMALL -DRECOVERERS=2
 * prove:  -DUSERS=2 -DDEATHS=2 -DLARGE -DRECOVERERS=2
 * mutant: -DUSERS=2 -DDEATHS=1 -DSMALL -DNOTE_BEFORE_ONLY
 * mutant: -DUSERS=2 -DDEATHS=1 -DSMALL -DRECOVERY_NOTES_NOTHING
 * mutant: -DUSERS=2 -DDEATHS=1 -DSMALL -DRECOVERY_FREES_SHARED
 * mutant: -DUSERS=2 -DDEATHS=1 -DSMALL -DSTORE_INSTEAD_OF_SWAP
 * mutant: -DUSERS=2 -DDEATHS=1 -DSMALL -DSETTLE_WITHOUT_CLAIM -DRECOVERERS=2
 * mutant: -DUSERS=2 -DDEATHS=1 -DLARGE -DDIRECTORY_DECIDES
 * mutant: -DUSERS=2 -DDEATHS=1 -DLARGE -DFREE_WITHOUT_OWNING
 * mutant: -DUSERS=2 -DDEATHS=1 -DLARGE -DRELEASE_FIRST_FIRST
 */
#ifndef RECOVERERS
#define RECOVERERS 1
#endif
#define BLOCKS 2
#define OBJECTS 2
#define PEOPLE (USERS + RECOVERERS)
#define LAST PEOPLE /* the tag of the immortal one, which comes last */

/* States of a block: FREE, RETURNED, OWNED + tag, SHARED + object. Words of the directory: FREE,
 * ORPHAN, HELD + tag, SETTLING + tag; of the second granule of the large block, HELD or FREE. */
#define FREE 0
#define RETURNED 1
#define ORPHAN 2
#define OWNED 10
#define SHARED 30
#define HELD 50
#define SETTLING 70

byte state[BLOCKS]; /* of the page's blocks */
byte page;          /* the page's word */
bool note;
byte big;    /* state of the large block */
byte head;   /* the first granule's word, and the second's */
byte second;

/* The world around. */
byte budget = DEATHS;
bool dead[PEOPLE];
byte users_over;
byte over;
byte given; /* objects made so far */
bool freeing[OBJECTS];
bool small_object[OBJECTS];
byte at[OBJECTS];    /* its block */
byte use[BLOCKS];    /* whose it really is: 0, 1 + tag, 20 + object */
byte big_use;

#define DIE :: atomic { budget > 0 -> budget--; dead[me] = true; goto gone }
#define LIVES(u) (u >= 1 && u <= PEOPLE && !dead[u - 1])

/* The caller is to use what was free. */
inline claim(u) {
  assert(u < 20 || freeing[u - 20]); /* not a shared object's */
  assert(!LIVES(u));                 /* not a live process's */
  u = 1 + me
}

/* Frees what is not shared in the page, which is the caller's; then it is free or an orphan. */
inline settle() {
  i = 0; any = false;
  do
  :: i < BLOCKS ->
     if
     :: atomic { state[i] >= SHARED -> any = true }
#ifdef RECOVERY_FREES_SHARED
     :: atomic { state[i] >= SHARED -> state[i] = FREE }
#endif
     :: state[i] == FREE
     :: else -> if DIE :: atomic { (state[i] < SHARED) -> state[i] = FREE } fi
     fi;
     i++
  :: else -> break
  od;
  if
  DIE
  :: atomic { any -> page = ORPHAN }
  :: atomic { !any -> page = FREE }
  fi;
  i = 0; any = false
}

inline release_large() {
#ifdef RELEASE_FIRST_FIRST
  if DIE :: big = FREE fi;
  if DIE :: head = FREE fi;
  if DIE :: second = FREE fi
#else
  if DIE :: second = FREE fi;
  if DIE :: big = FREE fi;
  if DIE :: head = FREE fi
#endif
}

/* After the death of d. */
inline recover(d) {
#ifdef SMALL
  if
  :: atomic { page == HELD + d || page == SETTLING + d -> old = page };
#ifdef SETTLE_WITHOUT_CLAIM
     settle()
#else
     if
     DIE
     :: atomic { page == old -> page = SETTLING + me; old = 0 }; settle()
     :: atomic { page != old -> old = 0 }
     fi
#endif
#ifndef RECOVERY_NOTES_NOTHING
  :: atomic { page != FREE && page != HELD + d && page != SETTLING + d -> skip };
     if DIE :: note = true fi
#endif
  :: else
  fi;
  old = 0
#endif
#ifdef LARGE
  old = head;
  if
  :: old == FREE
  :: else ->
     now = big;
     if
#ifdef DIRECTORY_DECIDES
     :: old == HELD + d ->
        if DIE :: atomic { head == old -> head = HELD + me }; release_large()
           :: atomic { head != old -> skip } fi
#else
     :: now == OWNED + d ->
        if
        DIE
        :: atomic { big == now -> big = OWNED + me };
           if DIE :: head = HELD + me fi;
           release_large()
        :: atomic { big != now -> skip }
        fi
     :: now == FREE && old == HELD + d ->
        if
        DIE
        :: atomic { head == old -> head = HELD + me }; release_large()
        :: atomic { head != old -> skip }
        fi
#endif
     :: else
     fi
  fi;
  old = 0; now = 0
#endif
}

/* Everybody may free for an object, also twice. */
inline free_for(o) {
  if
  :: small_object[o] ->
     freeing[o] = true;
#ifdef NOTE_BEFORE_ONLY
     if DIE :: note = true fi;
#endif
     if
     DIE
#ifdef STORE_INSTEAD_OF_SWAP
     :: atomic { state[at[o]] == SHARED + o -> skip }; if DIE :: state[at[o]] = RETURNED fi;
#else
     :: atomic { state[at[o]] == SHARED + o -> state[at[o]] = RETURNED };
#endif
#ifndef NOTE_BEFORE_ONLY
        if DIE :: note = true fi
#else
        skip
#endif
     :: atomic { state[at[o]] != SHARED + o -> skip }
     fi
  :: else ->
     freeing[o] = true;
     if
     DIE
#ifdef FREE_WITHOUT_OWNING
     :: atomic { big == SHARED + o -> big = FREE };
        if DIE :: second = FREE fi;
        if DIE :: head = FREE fi
#else
     :: atomic { big == SHARED + o -> big = OWNED + me };
        if DIE :: head = HELD + me fi;
        release_large()
#endif
     :: atomic { big != SHARED + o -> skip }
     fi
  fi
}

/* Two rounds of: get a block, keep it or give it away; free for some object. */
proctype User(byte me) {
  byte i, old, now, turns, b;
  bool any, mine; /* mine: the page is this process's */
  bool listed[BLOCKS];

  do
  :: turns < 2 ->
     turns++;
#ifdef SMALL
     /* A page: fresh, or that of the dead. */
     if
     :: mine
     :: !mine ->
        if
        DIE
        :: atomic { page == FREE -> page = HELD + me; mine = true; listed[0] = true; listed[1] = true }
        :: atomic { page == ORPHAN -> page = HELD + me; mine = true };
           i = 0;
           do
           :: i < BLOCKS ->
              if
              :: state[i] >= SHARED
              :: atomic { state[i] == FREE -> listed[i] = true }
              :: state[i] == RETURNED -> if DIE :: atomic { state[i] = FREE; listed[i] = true } fi
              fi;
              i++
           :: else -> i = 0; break
           od
        :: atomic { page != FREE && page != ORPHAN -> skip }
        fi
     fi;
     /* Sweep; the code does so only when its list is empty. */
     if
     :: true
     :: mine && note ->
        if DIE :: note = false fi;
        i = 0;
        do
        :: i < BLOCKS ->
           if
           :: state[i] == RETURNED -> if DIE :: atomic { state[i] = FREE; listed[i] = true } fi
           :: else
           fi;
           i++
        :: else -> i = 0; break
        od
     fi;
     /* Allocate; then free, keep or give. */
     if
     :: listed[0] -> b = 0
     :: !listed[0] && listed[1] -> b = 1
     :: else -> b = BLOCKS
     fi;
     if
     :: b < BLOCKS ->
        atomic { listed[b] = false; claim(use[b]) }
        if DIE :: state[b] = OWNED + me fi;
        if
        :: if DIE :: atomic { state[b] = FREE; use[b] = 0; listed[b] = true } fi
        :: true
        :: given < OBJECTS ->
           if
           DIE
           :: atomic {
                given < OBJECTS ->
                state[b] = SHARED + given; use[b] = 20 + given;
                small_object[given] = true; at[given] = b; given++
              }
           :: given >= OBJECTS
           fi
        fi
     :: else
     fi;
     b = 0;
#endif
#ifdef LARGE
     if
     DIE
     :: atomic { head == FREE -> head = HELD + me };
        if
        DIE
        :: atomic { second == FREE -> second = HELD; claim(big_use) };
           if DIE :: big = OWNED + me fi;
           if
           :: atomic { big_use = 0 }; if DIE :: big = FREE fi; release_large()
           :: true
           :: given < OBJECTS ->
              if
              DIE
              :: atomic { given < OBJECTS -> big = SHARED + given; big_use = 20 + given; given++ }
              :: given >= OBJECTS
              fi
           fi
        :: atomic { second != FREE -> skip }; if DIE :: head = FREE fi
        fi
     :: atomic { head != FREE -> skip }
     fi;
#endif
     if
     :: given > 0 -> free_for(0)
     :: given > 1 -> free_for(1)
     :: true
     fi
  :: else -> break
  od;
  /* A live process finds all that came back; the last one to look is outside of time. */
  users_over++;
  atomic { over == PEOPLE || users_over > 100 -> skip }
  goto out;
gone:
  atomic { users_over++; listed[0] = false; listed[1] = false; mine = false }
  over == PEOPLE;
out:
  skip
}

proctype Recoverer(byte me) {
  byte i, old, now, d;
  bool any;
  do
  :: d < PEOPLE && d != me && dead[d] -> recover(d); d++
  :: d == me -> d++
  :: d < PEOPLE && d != me && !dead[d] && users_over == USERS -> d++
  :: d >= PEOPLE -> break
  od;
gone:
  atomic { over++; i = 0; old = 0; now = 0 }
}

/* Comes when all is over, cannot die, and judges. */
init {
  byte me = LAST;
  byte i, old, now, d;
  bool any;
  atomic {
    do
    :: d < USERS -> run User(d); d++
    :: d >= USERS && d < PEOPLE -> run Recoverer(d); d++
    :: else -> d = 0; break
    od
  }
  users_over == USERS && over == RECOVERERS;
  budget = 0;
  atomic {
    do
    :: d < PEOPLE -> if :: dead[d] -> recover(d) :: else fi; d++
    :: else -> break
    od;
    d = 0;
    do
    :: d < PEOPLE ->
       assert(!dead[d] || (page != HELD + d && page != SETTLING + d));
       assert(!dead[d] || (state[0] != OWNED + d && state[1] != OWNED + d));
       assert(!dead[d] || big != OWNED + d);
       assert(!dead[d] || head != HELD + d || big >= SHARED);
       /* What came back to a live process is noted. */
       assert(page != HELD + d || note || (state[0] != RETURNED && state[1] != RETURNED));
       d++
    :: else -> break
    od;
    assert(page < SETTLING);
    assert(head != FREE || (second == FREE && big == FREE));
    d = 0;
    do
    :: d < given ->
       assert(freeing[d] || !small_object[d] || state[at[d]] == SHARED + d);
       assert(freeing[d] || small_object[d] || (big == SHARED + d && head != FREE && second != FREE));
       d++
    :: else -> break
    od
  }
  goto done;
gone:
  assert(false);
done:
  over = PEOPLE
}
